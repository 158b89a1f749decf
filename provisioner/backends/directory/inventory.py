"""What lies in the pools, for people, and how a deleted volume comes back: `provisioner volumes` and `restore`."""

import dataclasses
import datetime
from collections.abc import Iterable, Iterator, Sequence

from provisioner import errors, model
from provisioner.backends import inventory
from provisioner.backends.directory import ids, placement, pool, records, trash


class DirectoryInventory:
    """`inventory.Inventory` over some pools."""

    def __init__(self, places: Sequence[placement.Place]) -> None:
        self._places = places

    def entries(self) -> Iterable[inventory.Entry]:
        """Every volume of every pool, as `inventory.Inventory.entries`."""
        for place in self._places:
            yield from _in_place(place.pool)
            yield from (_trashed(place.pool, found) for found in place.trash.deleted())

    def restore(self, volume_id: model.VolumeId, name: str) -> inventory.Entry:
        """Move the volume back to its place, as `inventory.Inventory.restore`; it keeps its name."""
        volume = ids.DirectoryId.parse(volume_id.value)
        place = None if volume is None else placement.Places(self._places).owner(volume)
        if volume is None or place is None:
            raise errors.VolumeNotFoundError(f"there is no volume {volume_id} here")
        deleted = [found for found in place.trash.deleted() if found.name.volume == str(volume)]
        record = place.pool.find(volume)
        if record is None and deleted:
            record = deleted[-1].record
        if record is None:
            raise errors.VolumeNotFoundError(f"the trash holds no volume {volume_id}")
        if name not in ("", record.name):
            raise errors.UnsupportedError(
                f"volume {volume_id} is {record.name} and stays so: a directory's id follows from its name",
                remedy="restore it under its own name",
            )
        if deleted:
            place.trash.restore(deleted[-1])
        return _entry(place.pool, record, "volumes", record.id)


def _in_place(of: pool.Pool) -> Iterator[inventory.Entry]:
    for volume in of.volumes():
        try:
            record = of.find(volume)
        except errors.VolumeQuarantinedError:
            yield _unreadable(of, volume)
        else:
            if record is not None:
                yield _entry(of, record, "volumes", record.id)


def _unreadable(of: pool.Pool, volume: ids.DirectoryId) -> inventory.Entry:
    return inventory.Entry(
        id=model.VolumeId(str(volume)),
        name="",
        claim="",
        where=str(of.path / "volumes" / str(volume)),
        size=0,
        state=inventory.State.UNREADABLE,
    )


def _trashed(of: pool.Pool, found: trash.Deleted) -> inventory.Entry:
    entry = _entry(of, found.record, "trash", str(found.name))
    return dataclasses.replace(entry, state=inventory.State.TRASH, deleted=found.name.deleted, expires=found.expires)


def _entry(of: pool.Pool, record: records.Record, place: str, name: str) -> inventory.Entry:
    modes = {model.AccessMode(one.access_mode).kubernetes_name for one in record.capabilities}
    return inventory.Entry(
        id=model.VolumeId(record.id),
        name=record.name,
        claim=record.label,
        where=str(of.path / place / name),
        size=record.size,
        state=inventory.State.READY,
        created=datetime.datetime.fromisoformat(record.created),
        access_modes=tuple(sorted(modes)),
    )
