"""Takes, finds and removes snapshots: plain snapshots of the volume's image, in one step.

What is known of a snapshot is in its image's metadata, which is set when it is taken: before that it is none. A note in
the pool says which image has the snapshot of a name, so that one name is never the snapshot of two volumes of a place.
Volumes are restored from it as clones of version 2: they stay usable when it goes, and when its image does.
"""

import dataclasses
import datetime
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from provisioner import errors, model
from provisioner.backends.rbd import aside, deletion, ids, making, places, record
from provisioner.backends.rbd.client import api
from provisioner.backends.rbd.client import errors as client_errors

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,95}", re.ASCII)


@dataclasses.dataclass(frozen=True, slots=True)
class Index:
    """What the note of a snapshot's name says: the image that has it."""

    image_id: str
    name: str

    @classmethod
    def parse(cls, text: str) -> "Index":
        """Read the note; a damaged one names no image."""
        try:
            found = json.loads(text)
            return cls(str(found["image_id"]), str(found["name"]))
        except (ValueError, KeyError, TypeError):
            return cls("", "")

    def __str__(self) -> str:
        return json.dumps({"image_id": self.image_id, "name": self.name})


class Snapshots:
    """The snapshots of one Kubernetes cluster. Thread-safe; several processes may work on the same."""

    def __init__(
        self,
        instance: str,
        maker: making.Maker,
        deleter: deletion.Deleter,
        *,
        limit: int,
        clock: Callable[[], datetime.datetime],
        steps: Callable[[str], None],
    ) -> None:
        self._instance = instance
        self._maker = maker
        self._deleter = deleter
        self._limit = limit
        self._clock = clock
        self._steps = steps

    def create(self, spot: places.Spot, image: str, name: str) -> model.Snapshot:
        """Take the snapshot, or find it, as `base.Snapshots.create_snapshot`."""
        found = self._maker.look(spot, image)
        if found is None:
            raise errors.VolumeNotFoundError(f"there is no image {image} in {spot} to take a snapshot of")
        digits = ids.snapshot_digits(name)
        taken = found.record.taken.get(digits)
        if taken is None:
            self._claim(spot, digits, Index(found.id, name))
            self._steps("snapshot.claimed")
            self._check_count(spot, found, digits)
            taken = self._take(spot, found, name)
        return _snapshot(spot, found.id, found.record, taken, self._instance)

    def _check_count(self, spot: places.Spot, found: making.Found, digits: str) -> None:
        count = len(found.record.taken)
        if count >= self._limit:
            spot.images.drop_note(_note(digits))
            raise errors.InsufficientCapacityError(
                f"image {found.image} in {spot} has {count} snapshots, and may have {self._limit}",
                remedy="delete snapshots of this volume",
            )

    def _take(self, spot: places.Spot, found: making.Found, name: str) -> record.Taken:
        taken = record.Taken(
            name=name,
            snapshot=_snapshot_name(name),
            size=found.size,
            created=self._clock(),
            formatted=found.record.formatted,
        )
        try:
            spot.images.create_snapshot(found.image, taken.snapshot)
        except client_errors.SnapshotTakenError:
            taken = _seen(spot.images, found.image, taken)  # A call that was cut short took it.
        self._steps("snapshot.taken")
        spot.images.set_metadata(found.id, record.encode_taken(taken))
        return taken

    def get(self, spot: places.Spot, wanted: ids.RbdSnapshotId) -> model.Snapshot:
        """The snapshot.

        Raises:
            errors.SnapshotNotFoundError: there is none.
        """
        of = self._record(spot, wanted.image_id)
        taken = of.taken.get(wanted.snapshot) if of else None
        if of is None or taken is None:
            raise errors.SnapshotNotFoundError(f"there is no snapshot {wanted}")
        return _snapshot(spot, wanted.image_id, of, taken, self._instance)

    def origin(self, spot: places.Spot, wanted: ids.RbdSnapshotId) -> tuple[making.Origin, record.Record]:
        """What a volume restored from the snapshot begins as, and the record of its image.

        Raises:
            errors.SnapshotNotFoundError: there is none.
        """
        of = self._record(spot, wanted.image_id)
        taken = of.taken.get(wanted.snapshot) if of else None
        # Only an image that is needed is looked for: one on its way into the trash is taken out of it again for that.
        image = None if of is None or taken is None else self._image(spot, wanted.image_id, of)
        if of is None or taken is None or image is None:
            raise errors.SnapshotNotFoundError(f"there is no snapshot {wanted}")
        begun = making.Origin(images=spot.images, image=image, snapshot=taken.snapshot, size=taken.size)
        return begun, dataclasses.replace(of, formatted=taken.formatted)

    def delete(self, spot: places.Spot, wanted: ids.RbdSnapshotId) -> None:
        """Remove the snapshot, and its image where it was deleted and this was what kept it. Idempotent."""
        of = self._record(spot, wanted.image_id)
        note = spot.images.read_note(_note(wanted.snapshot))
        index = Index.parse(note) if note else Index("", "")
        mine = index.image_id == wanted.image_id
        taken = of.taken.get(wanted.snapshot) if of else None
        if of is not None and (taken or mine):
            self._forget(spot, wanted, of, taken.snapshot if taken else _snapshot_name(index.name))
        if mine:
            spot.images.drop_note(_note(wanted.snapshot))
        if of is not None and of.deleted is not None and not set(of.taken) - {wanted.snapshot}:
            self._deleter.release(spot, wanted.image_id, of)

    def _forget(self, spot: places.Spot, wanted: ids.RbdSnapshotId, of: record.Record, snapshot: str) -> None:
        """Remove the snapshot from its image, and then what is known of it."""
        image = self._image(spot, wanted.image_id, of)
        if image is None:
            return
        self._remove(spot.images, image, snapshot)
        self._steps("delete-snapshot.removed")
        spot.images.remove_metadata(wanted.image_id, [record.taken_key(wanted.snapshot)])
        self._steps("delete-snapshot.forgotten")

    def page(
        self, spots: Sequence[places.Spot], *, source: str | None, after: str, limit: int
    ) -> Sequence[model.Snapshot]:
        """At most `limit` snapshots behind the id `after`, in the order of their ids.

        Args:
            source: the image whose snapshots are wanted; None for all.
        """
        page: list[model.Snapshot] = []
        for begin, spot, entry in sorted(self._candidates(spots, source), key=lambda each: each[0]):
            if len(page) >= limit:
                break
            if begin + "~" > after:  # Nothing in an id sorts behind it.
                page.extend(each for each in self._of(spot, entry, source) if each.id.value > after)
        return page[:limit]

    def _candidates(
        self, spots: Sequence[places.Spot], source: str | None
    ) -> Iterator[tuple[str, places.Spot, api.ImageEntry]]:
        """The images that may have snapshots of ours, with the beginning of their ids."""
        for spot in spots:
            for entry in _listed(spot):
                ours = ids.is_image_of(self._instance, entry.name) if source is None else entry.name == source
                if ours or aside.is_kept(self._instance, entry.name):
                    yield f"s1.{spot.id}.{entry.id}.", spot, entry

    def _of(self, spot: places.Spot, entry: api.ImageEntry, source: str | None) -> Sequence[model.Snapshot]:
        of = self._record(spot, entry.id)
        # A clone that is being made has its source's metadata for a moment, with its source's snapshots in it.
        proper = of is not None and entry.name in (
            ids.image_name(self._instance, of.name),
            aside.kept_name(self._instance, entry.id),
        )
        if of is None or not proper or (source is not None and ids.image_name(self._instance, of.name) != source):
            return []
        found = sorted(of.taken.items())
        return [_snapshot(spot, entry.id, of, taken, self._instance) for _, taken in found]

    def _claim(self, spot: places.Spot, digits: str, mine: Index) -> None:
        before = spot.images.claim_note(_note(digits), str(mine))
        if before is None or before == str(mine):
            return
        other = Index.parse(before)
        if self._record(spot, other.image_id) is None:
            spot.images.drop_note(_note(digits))  # Of an image that is gone.
            if spot.images.claim_note(_note(digits), str(mine)) is None:
                return
        raise errors.SnapshotExistsError(
            f"snapshot {mine.name} exists already, and is of another volume",
            remedy="use another name, or delete the other snapshot",
        )

    def _record(self, spot: places.Spot, image_id: str) -> record.Record | None:
        try:
            found = spot.images.metadata(image_id) if image_id else {}
        except client_errors.ImageNotFoundError:
            return None
        return record.Record.parse(found, instance=self._instance, image=None)

    def _image(self, spot: places.Spot, image_id: str, of: record.Record) -> str | None:
        """What the image is called now: as its volume, or as one that was put aside."""
        if of.deleted is not None:
            aside.recover(spot.images, self._instance, image_id)
        for image in (ids.image_name(self._instance, of.name), aside.kept_name(self._instance, image_id)):
            try:
                if spot.images.find(image).id == image_id:
                    return image
            except client_errors.ImageNotFoundError:
                continue
        return None

    def _remove(self, images: api.Images, image: str, snapshot: str) -> None:
        try:
            images.remove_snapshot(image, snapshot)
        except client_errors.NoSuchSnapshotError:
            pass  # A call that was cut short removed it.
        except client_errors.SnapshotBusyError as error:
            raise errors.SnapshotInUseError(
                f"snapshot {snapshot} of image {image} is protected, so somebody else works with it",
                remedy="let `rbd snap unprotect` release it",
            ) from error


def check_parameters(given: Mapping[str, str]) -> None:
    """Refuse parameters of a VolumeSnapshotClass; those under `csi.storage.k8s.io/` are the snapshotter's own.

    Raises:
        errors.InvalidParameterError: there is one.
    """
    for key in given:
        if not key.startswith("csi.storage.k8s.io/"):
            raise errors.InvalidParameterError(
                f"the VolumeSnapshotClass parameter {key[:64]!a} is unknown", remedy="remove it: there are none"
            )


def _listed(spot: places.Spot) -> Sequence[api.ImageEntry]:
    try:
        return spot.images.list()
    except client_errors.NotPermittedError:
        return []  # A pool that is not for us.


def _seen(images: api.Images, image: str, taken: record.Taken) -> record.Taken:
    """The snapshot with the time and size that Ceph knows of it."""
    for one in images.snapshots(image):
        if one.name == taken.snapshot and not one.trashed:
            return dataclasses.replace(taken, size=one.size, created=one.created)
    return taken


def _note(digits: str) -> str:
    return f"snapshot.{digits}"


def _snapshot_name(name: str) -> str:
    """What Ceph calls the snapshot that the caller calls `name`."""
    return (
        name
        if _SAFE_NAME.fullmatch(name) and not name.startswith(("x-", "clone-"))
        else f"x-{ids.snapshot_digits(name)}"
    )


def _snapshot(
    spot: places.Spot, image_id: str, of: record.Record, taken: record.Taken, instance: str
) -> model.Snapshot:
    source = ids.RbdVolumeId(spot.id, ids.image_name(instance, of.name))
    return model.Snapshot(
        id=model.SnapshotId(str(ids.RbdSnapshotId(spot.id, image_id, ids.snapshot_digits(taken.name)))),
        source=model.VolumeId(str(source)),
        size=taken.size,
        created=taken.created,
    )
