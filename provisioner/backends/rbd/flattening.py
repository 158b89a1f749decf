"""Makes clones independent of their ancestors, in the background, before there are too many of these.

What is to be flattened is remembered in this process alone: after a restart the next clone of a deep image brings it
back, for every clone of one is deep itself.
"""

import collections
import threading
from collections.abc import Callable

import structlog

from provisioner import errors
from provisioner.backends.rbd import ids, names, places
from provisioner.backends.rbd.client import errors as client_errors

_LIMIT = 1000

_log = structlog.get_logger(__name__)


class Flattener:
    """A queue of images. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: collections.OrderedDict[tuple[ids.PlaceId, str], None] = collections.OrderedDict()

    def want(self, place: ids.PlaceId, image: str) -> None:
        """Have the image flattened by a coming `run`; of too many, the last are left out."""
        with self._lock:
            if len(self._waiting) < _LIMIT:
                self._waiting[place, image] = None

    def run(self, find: Callable[[ids.PlaceId], places.Spot | None], *, may_go_on: Callable[[], bool]) -> int:
        """Flatten what waits, one after the other; returns how many images were. One that cannot be goes last."""
        done = 0
        for _ in range(len(self._waiting)):
            taken = self._next()
            if taken is None or not may_go_on():
                break
            place, image = taken
            try:
                spot = find(place)
                if spot is not None:
                    self._flatten(spot, image)
                    done += 1
            except client_errors.ImageNotFoundError:
                pass  # It was deleted.
            except errors.ProvisionerError as error:
                _log.warning("clone cannot be flattened yet", image=image, error=str(error))
                self.want(place, image)
                continue
            self._forget(place, image)
        return done

    def _flatten(self, spot: places.Spot, image: str) -> None:
        image_id = spot.images.find(image).id
        spot.images.flatten(image)
        spot.images.set_metadata(image_id, {names.DEPTH: "0"})
        _log.info("clone flattened", place=str(spot), image=image)

    def _next(self) -> tuple[ids.PlaceId, str] | None:
        with self._lock:
            return next(iter(self._waiting), None)

    def _forget(self, place: ids.PlaceId, image: str) -> None:
        with self._lock:
            self._waiting.pop((place, image), None)
