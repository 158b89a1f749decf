"""What lies in the pools, for people, and how a deleted volume comes back: `provisioner volumes` and `restore`."""

import datetime
from collections.abc import Iterable

from provisioner import errors, model
from provisioner.backends import inventory
from provisioner.backends.rbd import ids, owner, places, record, trash
from provisioner.backends.rbd.client import api
from provisioner.backends.rbd.client import errors as client_errors


class RbdInventory:
    """`inventory.Inventory` over all places."""

    def __init__(self, instance: str, known: places.Places, bin_: trash.Trash) -> None:
        self._instance = instance
        self._places = known
        self._trash = bin_

    def entries(self) -> Iterable[inventory.Entry]:
        """Every volume of every place, as `inventory.Inventory.entries`."""
        for spot in self._places.all():
            try:
                images = spot.images.list()
            except client_errors.NotPermittedError:
                continue  # A pool that is not for us.
            for listed in images:
                if ids.is_image_of(self._instance, listed.name):
                    found = self._in_place(spot, listed)
                    if found is not None:
                        yield found
            for deleted in self._trash.deleted(spot):
                yield self._deleted(deleted)

    def restore(self, volume_id: model.VolumeId, name: str) -> inventory.Entry:
        """Bring the volume back, as `inventory.Inventory.restore`."""
        wanted = ids.RbdVolumeId.parse(volume_id.value)
        spot = None if wanted is None else self._places.of_id(wanted.place)
        if wanted is None or spot is None:
            raise errors.VolumeNotFoundError(f"there is no volume {volume_id} here")
        found = [each for each in self._trash.deleted(spot) if each.volume(self._instance) == wanted]
        if found:
            image = self._trash.restore(max(found, key=lambda each: each.deleted), name)
            return self._entry_of(spot, image)
        entry = self._in_place(spot, api.ImageEntry("", wanted.image))
        if entry is None or entry.state is not inventory.State.READY or name not in ("", entry.name):
            raise errors.VolumeNotFoundError(f"the trash holds no volume {volume_id}")
        return entry

    def _entry_of(self, spot: places.Spot, image: str) -> inventory.Entry:
        entry = self._in_place(spot, api.ImageEntry("", image))
        if entry is None:
            raise errors.VolumeNotFoundError(f"there is no image {image} in {spot}")
        return entry

    def _in_place(self, spot: places.Spot, listed: api.ImageEntry) -> inventory.Entry | None:
        """The volume that is this image; None where it is a stranger's, or gone, or being made just now."""
        volume = model.VolumeId(str(ids.RbdVolumeId(spot.id, listed.name)))
        where = f"{spot}/{listed.name}"
        try:
            seen = spot.images.find(listed.name)
            found = record.Record.parse(seen.metadata, instance=self._instance, image=listed.name)
        except client_errors.ImageIncompleteError:
            return self._unfinished(spot, listed.name)
        except client_errors.ImageNotFoundError:
            return None
        except errors.VolumeQuarantinedError:
            return inventory.Entry(id=volume, name="", claim="", where=where, size=0, state=inventory.State.UNREADABLE)
        if found is None or not found.ready:
            return self._unfinished(spot, listed.name)
        return _entry(volume, found, where, seen.size, inventory.State.READY)

    def _unfinished(self, spot: places.Spot, image: str) -> inventory.Entry | None:
        """An image that a process of ours began; a note tells it from a stranger's, and who is at it still."""
        note = spot.images.read_note(f"making.{image}")
        by = owner.Owner.parse(note) if note else None
        if by is None or not by.has_ended(datetime.datetime.now(datetime.UTC)):
            return None
        return inventory.Entry(
            id=model.VolumeId(str(ids.RbdVolumeId(spot.id, image))),
            name="",
            claim="",
            where=f"{spot}/{image}",
            size=0,
            state=inventory.State.UNFINISHED,
            created=by.since,
        )

    def _deleted(self, deleted: trash.Deleted) -> inventory.Entry:
        volume = deleted.volume(self._instance)
        place = f"trash, image id {deleted.image_id}" if deleted.in_trash else deleted.named
        return _entry(
            model.VolumeId(str(volume)),
            deleted.record,
            f"{deleted.spot}/{place}",
            deleted.record.size,
            inventory.State.TRASH,
            deleted=deleted.deleted,
            expires=deleted.expires,
        )


def _entry(
    volume: model.VolumeId,
    found: record.Record,
    where: str,
    size: int,
    state: inventory.State,
    *,
    deleted: datetime.datetime | None = None,
    expires: datetime.datetime | None = None,
) -> inventory.Entry:
    modes, types = (
        zip(*(each.split("/")[:2] for each in found.capabilities), strict=True) if found.capabilities else ((), ())
    )
    return inventory.Entry(
        id=volume,
        name=found.name,
        claim="/".join(filter(None, found.claim)),
        where=where,
        size=size,
        state=state,
        created=found.created,
        deleted=deleted,
        expires=expires,
        access_modes=tuple(sorted({model.AccessMode(mode).kubernetes_name for mode in modes})),
        block=model.AccessType.BLOCK.value in types,
    )
