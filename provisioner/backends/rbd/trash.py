"""The trash: what is in it, how it is emptied, and how a volume comes back.

An image in the trash keeps its metadata, so it is known of each whose it was. A copy that somebody made of one with the
command `rbd cp` has that metadata too, so that only what has a name of the driver's giving is ours. One process at a
time purges a place, by a lock that runs out with the process; whatever hinders one image is counted, and the others go.
"""

import contextlib
import dataclasses
import datetime
import secrets
from collections.abc import Callable, Iterator

import structlog

from provisioner import errors, metrics
from provisioner.backends.rbd import aside, ids, names, places, record
from provisioner.backends.rbd.client import api
from provisioner.backends.rbd.client import errors as client_errors

_LOCK = "purging"
_LOCK_SECONDS = 60

_log = structlog.get_logger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Deleted:
    """A volume of ours in the trash, or put aside.

    Attributes:
        expires: None where it stays until somebody removes it, or its last snapshot.
        named: the image's name now, in the trash or as it was put aside.
        in_trash: whether it is in the trash.
    """

    spot: places.Spot
    image_id: str
    record: record.Record
    deleted: datetime.datetime
    expires: datetime.datetime | None
    named: str
    in_trash: bool = True

    def volume(self, instance: str) -> ids.RbdVolumeId:
        """The id that the volume had, and has again when it is restored under its name."""
        return ids.RbdVolumeId(self.spot.id, ids.image_name(instance, self.record.name))


class Trash:
    """The trash of every place. Thread-safe."""

    def __init__(self, instance: str, measured: metrics.Metrics, *, clock: Callable[[], datetime.datetime]) -> None:
        self._instance = instance
        self._metrics = measured
        self._clock = clock
        self._cookie = secrets.token_hex(8)
        self._hindered: dict[tuple[ids.PlaceId, str], int] = {}

    def deleted(self, spot: places.Spot) -> Iterator[Deleted]:
        """Every deleted volume of ours in this place, those that were put aside too."""
        for entry in spot.images.trash_list():
            found = self._record(spot, entry.id, entry.name)
            if found is not None:
                on_its_way = aside.is_on_its_way(entry, self._clock())
                due = None if on_its_way else _due(entry, found)
                yield Deleted(spot, entry.id, found, entry.deleted, due, entry.name)
        for listed in spot.images.list():
            if aside.is_kept(self._instance, listed.name):
                found = self._record(spot, listed.id, listed.name)
                if found is not None and found.deleted is not None:
                    yield Deleted(spot, listed.id, found, found.deleted, None, listed.name, in_trash=False)

    def restore(self, deleted: Deleted, name: str) -> str:
        """Bring the volume back under this name, or its own where that is empty; returns its image's name.

        Raises:
            errors.VolumeExistsError: there is another volume of this name.
            errors.NotReadyError: its retention is over, and its removal has begun.
        """
        images, image_id = deleted.spot.images, deleted.image_id
        name = name or deleted.record.name
        image = ids.image_name(self._instance, name)
        if images.exists(image):
            raise errors.VolumeExistsError(
                f"there is a volume {name} already: image {image} in {deleted.spot}",
                remedy="restore the deleted one under another name",
            )
        # The name first: what is killed behind it finds the volume in the trash, under its new name.
        images.set_metadata(image_id, {names.NAME: name, names.NODE: "", names.RESTORED_FROM: deleted.named})
        if not deleted.in_trash:
            images.trash_move(deleted.named, delay_seconds=int(datetime.timedelta(days=365).total_seconds()))
        try:
            images.trash_restore(image_id, image)
        except client_errors.ImageExistsError as error:
            raise errors.VolumeExistsError(
                f"there is a volume {name} already: image {image} in {deleted.spot}",
                remedy="restore the deleted one under another name",
            ) from error
        except client_errors.ImageBusyError as error:
            raise errors.NotReadyError(
                f"the volume {deleted.record.name} cannot be had back: its removal has begun"
            ) from error
        images.remove_metadata(image_id, [names.DELETED_AT, names.RESTORED_FROM])
        return image

    def purge(self, spot: places.Spot, *, may_go_on: Callable[[], bool]) -> int:
        """Remove for good what has expired; returns how many images were removed.

        What cannot go, for its clones are in use or it is open, is tried again after the others.
        """
        try:
            spot.images.lock(_LOCK, cookie=self._cookie, seconds=_LOCK_SECONDS)
        except client_errors.LockHeldError:
            return 0  # Another process is at it.
        try:
            return self._purge(spot, may_go_on)
        finally:
            with contextlib.suppress(errors.ProvisionerError):
                spot.images.unlock(_LOCK, cookie=self._cookie)

    def _purge(self, spot: places.Spot, may_go_on: Callable[[], bool]) -> int:
        now = self._clock()
        entries = spot.images.trash_list()
        self._forget_all_but(spot, {entry.id for entry in entries})
        expired = sorted(
            (entry for entry in entries if entry.expires <= now or aside.is_on_its_way(entry, now)),
            key=lambda entry: (self._hindered.get((spot.id, entry.id), 0), entry.expires),
        )
        purged = 0
        for entry in expired:
            if not may_go_on():
                break
            spot.images.lock(_LOCK, cookie=self._cookie, seconds=_LOCK_SECONDS)
            purged += self._purge_one(spot, entry)
        self._metrics.trash_volumes.labels(str(spot)).set(len(entries) - purged)
        return purged

    def _purge_one(self, spot: places.Spot, entry: api.TrashEntry) -> bool:
        outcome = "failed"
        try:
            found = self._record(spot, entry.id, entry.name)
            if found is None or not self._may_go(entry, found):
                return False  # A stranger's, or of another Kubernetes cluster, or put there by hand without a time.
            if found.deleted is not None and (found.taken or found.on_delete == "retain"):
                aside.recover(spot.images, self._instance, entry.id)
                return False
            if found.nodes:
                outcome = "waiting"  # It was put there by hand, and a node that only reads hinders no removal.
            else:
                spot.images.trash_remove(entry.id)
                outcome = "purged"
        except client_errors.ImageNotFoundError:
            return False  # Another process was faster, or it was restored.
        except (client_errors.ImageHasSnapshotsError, client_errors.ImageBusyError):
            outcome = "waiting"
        except client_errors.TrashRetainedError:
            return False  # The clocks differ.
        except errors.ProvisionerError as error:
            _log.error("deleted volume cannot be purged", place=str(spot), image=entry.name, error=str(error))
        self._metrics.purged.labels(outcome).inc()
        if outcome == "purged":
            _log.info("deleted volume purged", place=str(spot), image=entry.name, deleted=entry.deleted.isoformat())
            return True
        self._hindered[spot.id, entry.id] = self._hindered.get((spot.id, entry.id), 0) + 1
        return False

    def _may_go(self, entry: api.TrashEntry, found: record.Record) -> bool:
        now = self._clock()
        return aside.is_on_its_way(entry, now) or _due(entry, found) <= now

    def _forget_all_but(self, spot: places.Spot, present: set[str]) -> None:
        gone = [key for key in self._hindered if key[0] == spot.id and key[1] not in present]
        for key in gone:
            del self._hindered[key]

    def _record(self, spot: places.Spot, image_id: str, image: str) -> record.Record | None:
        """What the image says of itself, where it has a name that the driver gave it."""
        try:
            metadata = spot.images.metadata(image_id)
            found = record.Record.parse(metadata, instance=self._instance, image=None)
        except (client_errors.ImageNotFoundError, errors.VolumeQuarantinedError):
            return None
        if found is None:
            return None
        kept = aside.kept_name(self._instance, image_id)
        own = {ids.image_name(self._instance, found.name), kept, metadata.get(names.RESTORED_FROM)}
        return found if image in own else None


def _due(entry: api.TrashEntry, found: record.Record) -> datetime.datetime:
    """When the volume may go, whoever put it into the trash."""
    if found.on_delete == "purge":
        return entry.expires
    return max(entry.expires, entry.deleted + datetime.timedelta(seconds=found.retention))
