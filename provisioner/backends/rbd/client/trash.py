"""The trash of a place."""

import errno
from collections.abc import Mapping, Sequence
from typing import Any

from provisioner.backends.rbd.client import api, errors, snapshots, space, translate


class Trash(space.Space):
    """See `api.Images`."""

    def trash_move(self, name: str, *, delay_seconds: int) -> None:
        """See `api.Images`."""
        try:
            with self._session.calling(f"moving image {name} in {self._place} to the trash"):
                self._rbd.trash_move(self.ioctx, name, delay_seconds)
        except errors.ImageNotFoundError:
            if self.exists(name):
                raise still_there(name, self._place) from None
            raise

    def trash_list(self) -> Sequence[api.TrashEntry]:
        """See `api.Images`."""
        with self._session.calling(f"listing the trash of {self._place}"):
            return [_entry(found) for found in self._rbd.trash_list(self.ioctx) if found["source"] == "USER"]

    def trash_restore(self, image_id: str, name: str) -> None:
        """See `api.Images`."""
        with self._session.calling(f"restoring image {image_id} from the trash of {self._place} as {name}"):
            self._rbd.trash_restore(self.ioctx, image_id, name)

    def trash_remove(self, image_id: str, *, force: bool = False) -> None:
        """See `api.Images`."""
        retained: translate.Kinds = {errno.EPERM: errors.TrashRetainedError}
        try:
            with self._session.calling(f"removing image {image_id} from the trash of {self._place}", retained):
                self._rbd.trash_remove(self.ioctx, image_id, force)
        except errors.ImageNotFoundError:
            if self.is_trashed(image_id):
                raise still_there(image_id, self._place) from None
            raise


def still_there(image: str, place: api.Place) -> errors.QuotaExceededError:
    """A full pool lets Ceph say that an image does not exist, which it could not remove."""
    return errors.QuotaExceededError(
        f"image {image} in {place} could not be removed, as pool {place.pool} takes no writes: it is full",
        remedy="raise the pool's quota for the removal",
    )


def _entry(found: Mapping[str, Any]) -> api.TrashEntry:
    return api.TrashEntry(
        id=found["id"],
        name=found["name"],
        deleted=snapshots.in_utc(found["deletion_time"]),
        expires=snapshots.in_utc(found["deferment_end_time"]),
    )
