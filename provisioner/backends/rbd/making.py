"""Makes images: empty, from a snapshot, or from another volume; and finds out what a killed process left of one.

A note in the pool stands from before the image is there until it is whole. So what is half made is told from what a
living process is making, and what a killed process of ours left from an image that a stranger made under our name.
The image's metadata, set in one step, is what makes it a volume.
"""

import collections
import contextlib
import dataclasses
import datetime
import secrets
import threading
from collections.abc import Callable, Iterator

from provisioner import errors
from provisioner.backends.rbd import aside, ids, names, owner, places, record
from provisioner.backends.rbd.client import api
from provisioner.backends.rbd.client import errors as client_errors

_REMEMBERED = 4096
_REPAIR_SECONDS = 60
_ATTEMPTS = 3
_CLOSE = datetime.timedelta(minutes=10)
"""Within this time of its note an image was made by who left the note; clocks differ, and Ceph may be slow."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a new image's first content is.

    Attributes:
        snapshot: empty where one has to be taken, and removed when the image is made.
        size: in bytes, at least.
    """

    images: api.Images
    image: str
    snapshot: str
    size: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A volume's image as it is."""

    image: str
    id: str
    size: int
    record: record.Record


class Maker:
    """Makes the images of one Kubernetes cluster. Thread-safe; several processes may make the same.

    `steps` is told each step that was reached, so that a test can stop the process there.
    """

    def __init__(self, instance: str, *, clock: Callable[[], datetime.datetime], steps: Callable[[str], None]) -> None:
        self._instance = instance
        self._clock = clock
        self._steps = steps
        self._part = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._busy: set[tuple[ids.PlaceId, str]] = set()
        self._made: collections.OrderedDict[tuple[ids.PlaceId, str], None] = collections.OrderedDict()

    def look(self, spot: places.Spot, image: str) -> Found | None:
        """The volume that is this image; None where there is no whole one of ours.

        Raises:
            errors.VolumeQuarantinedError: its metadata is unreadable.
        """
        try:
            seen = spot.images.find(image)
        except client_errors.ImageNotFoundError:
            return None
        found = record.Record.parse(seen.metadata, instance=self._instance, image=image)
        if found is None or not found.ready or found.deleted is not None:
            return None
        return Found(image=image, id=seen.id, size=seen.size, record=found)

    def made_before(self, spot: places.Spot, image: str) -> Found | None:
        """The volume, where this process made it: spares a repeated call the attempt to make it again."""
        with self._lock:
            known = (spot.id, image) in self._made
        return self.look(spot, image) if known else None

    def make(
        self, spot: places.Spot, image: str, wanted: record.Record, layout: api.Layout, origin: Origin | None
    ) -> Found:
        """Make the image, or find the one that is there, which may differ from what is wanted.

        Raises:
            errors.OperationPendingError: it is being made, in this process or another.
            errors.VolumeExistsError: somebody else made an image of this name.
        """
        note = f"making.{image}"
        with self._alone(spot, image):
            try:
                self._claim(spot, image, note)
            except errors.OperationPendingError:
                # Whole already: all that the other has left to do is to remove its note.
                found = self.look(spot, image)
                if found is None:
                    raise
                return found
            self._steps("create.claimed")
            try:
                found = self._build(spot, image, wanted, layout, origin)
            except errors.VolumeExistsError:
                spot.images.drop_note(note)  # It is a stranger's.
                raise
            except (errors.InvalidRequestError, errors.InsufficientCapacityError):
                # A pool can become full between an image and its metadata: the note then says that it is half made.
                if not spot.images.exists(image):
                    spot.images.drop_note(note)
                raise
            self._steps("create.ready")
            spot.images.drop_note(note)
            self._remember(spot, image)
            return found

    def clear(self, spot: places.Spot, image: str) -> None:
        """Remove what was left half made under this name, where nobody is making it.

        Raises:
            errors.OperationPendingError: it is being made, in this process or another.
        """
        note = f"making.{image}"
        with self._alone(spot, image):
            self._claim(spot, image, note)
            _clear_traces(spot.images, image)
            spot.images.drop_note(note)

    def forget(self, spot: places.Spot, image: str) -> None:
        """Believe no longer that the image is there."""
        with self._lock:
            self._made.pop((spot.id, image), None)

    def _build(
        self, spot: places.Spot, image: str, wanted: record.Record, layout: api.Layout, origin: Origin | None
    ) -> Found:
        for _ in range(_ATTEMPTS):
            try:
                return self._issue(spot, image, wanted, layout, origin)
            except client_errors.ImageExistsError:
                found = self._existing(spot, image)
                if found is not None:
                    return found
        raise errors.OperationPendingError(
            f"image {image} in {spot} comes and goes: another process works on it", remedy="call again later"
        )

    def _issue(
        self, spot: places.Spot, image: str, wanted: record.Record, layout: api.Layout, origin: Origin | None
    ) -> Found:
        if origin is None:
            made = spot.images.create(image, wanted.size, layout=layout, metadata=wanted.encode(self._instance))
            return Found(image=image, id=made, size=wanted.size, record=wanted)
        snapshot = origin.snapshot or _take(origin, image)
        self._steps("create.source")
        at_once = bool(origin.snapshot) and wanted.size <= origin.size
        metadata = dataclasses.replace(wanted, ready=at_once).encode(self._instance)
        parent = api.SnapshotRef(origin.images.place, origin.image, snapshot)
        image_id = spot.images.clone(parent, image, layout=layout, metadata=metadata)
        self._steps("create.cloned")
        if at_once:
            return Found(image=image, id=image_id, size=origin.size, record=wanted)
        if not origin.snapshot:
            origin.images.remove_snapshot(origin.image, snapshot)
        size = spot.images.find(image).size  # The source may have grown before the snapshot was taken.
        if wanted.size > size:
            spot.images.resize(image, wanted.size)
        self._steps("create.complete")
        size = max(size, wanted.size)
        spot.images.set_metadata(image_id, {names.STATE: names.READY, names.SIZE: str(size)})
        return Found(image=image, id=image_id, size=size, record=wanted)

    def _existing(self, spot: places.Spot, image: str) -> Found | None:
        """The volume that stands in the way; None where what stood there is gone, so that another can be made.

        There was no note: what is whole and not ours is a stranger's.
        """
        seen = _clear_traces(spot.images, image)
        if seen is None:
            return None
        found = record.Record.parse(seen.metadata, instance=self._instance, image=image)
        if found is None:
            raise errors.VolumeExistsError(
                f"image {image} in {spot} was made by somebody else; it is not touched",
                remedy="rename or remove it with the rbd command, or use another name for the volume",
            )
        if found.deleted is not None:
            aside.put_aside(spot.images, self._instance, image, seen.id, found.deleted)
            return None
        if not found.ready:
            _remove(spot.images, image)
            return None
        return Found(image=image, id=seen.id, size=seen.size, record=found)

    def _claim(self, spot: places.Spot, image: str, note: str) -> None:
        """Leave our note, and clear away what the last one who left it did not finish."""
        mine = str(owner.Owner.me(self._part, self._clock()))
        before = spot.images.claim_note(note, mine)
        if before is None:
            return
        said = owner.Owner.parse(before)
        if said is not None and not said.is_me(self._part) and not said.has_ended(self._clock()):
            raise _pending(spot, image)
        lock = f"repairing.{image}"
        spot.images.lock(lock, cookie=self._part, seconds=_REPAIR_SECONDS)
        try:
            if spot.images.read_note(note) != before:
                raise _pending(spot, image)
            self._clear_unfinished(spot.images, image, said)
            spot.images.drop_note(note)
            if spot.images.claim_note(note, mine) is not None:
                raise _pending(spot, image)
        finally:
            spot.images.unlock(lock, cookie=self._part)

    def _clear_unfinished(self, images: api.Images, image: str, by: owner.Owner | None) -> None:
        """Remove what the process that left the note made of an image, where that is no volume.

        It may have left nothing, and a stranger may have taken the name since: what says that it is of somebody else,
        or was made at another time, is left alone.
        """
        seen = _clear_traces(images, image)
        if seen is None or by is None or seen.metadata.get(names.INSTANCE, self._instance) != self._instance:
            return
        found = record.Record.parse(seen.metadata, instance=self._instance, image=image)
        if found is not None and found.ready:
            return
        strange = names.INSTANCE not in seen.metadata and seen.metadata
        if strange or abs(images.inspect(image).created - by.since) > _CLOSE:
            return
        _remove(images, image)

    @contextlib.contextmanager
    def _alone(self, spot: places.Spot, image: str) -> Iterator[None]:
        key = (spot.id, image)
        with self._lock:
            if key in self._busy:
                raise _pending(spot, image)
            self._busy.add(key)
        try:
            yield
        finally:
            with self._lock:
                self._busy.discard(key)

    def _remember(self, spot: places.Spot, image: str) -> None:
        with self._lock:
            self._made[spot.id, image] = None
            if len(self._made) > _REMEMBERED:
                self._made.popitem(last=False)


def _take(origin: Origin, image: str) -> str:
    """Take the snapshot that a clone of a volume needs; one that a killed process left is older than this call."""
    snapshot = f"clone-{image}"
    try:
        origin.images.create_snapshot(origin.image, snapshot)
    except client_errors.SnapshotTakenError:
        origin.images.remove_snapshot(origin.image, snapshot)
        origin.images.create_snapshot(origin.image, snapshot)
    return snapshot


def _clear_traces(images: api.Images, image: str) -> api.ImageRecord | None:
    """The image, where it is whole; None where there is none, or only traces of one, which are removed."""
    try:
        return images.find(image)
    except client_errors.ImageIncompleteError:
        _remove(images, image)
    except client_errors.ImageNotFoundError:
        pass
    return None


def _remove(images: api.Images, image: str) -> None:
    with contextlib.suppress(client_errors.ImageNotFoundError):
        images.remove(image)


def _pending(spot: places.Spot, image: str) -> errors.OperationPendingError:
    return errors.OperationPendingError(f"image {image} in {spot} is being made", remedy="call again later")
