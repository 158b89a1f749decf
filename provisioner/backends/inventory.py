"""What lies in a storage, for people: each volume with the claim it was made for, also when it is in the trash.

The commands `volumes` and `restore` ask for it. It is read from the storage itself, so that it answers where the
API server, or the claim's namespace, is gone.
"""

import dataclasses
import datetime
import enum
from collections.abc import Collection, Iterable, Iterator
from typing import Protocol

from provisioner import model


class State(enum.Enum):
    """What a volume is now."""

    READY = "ready"
    UNFINISHED = "unfinished"
    TRASH = "trash"
    UNREADABLE = "unreadable"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A volume, as the storage has it.

    Attributes:
        name: that CreateVolume was called with, and so the PersistentVolume's; empty where it is not known.
        claim: "namespace/name" of the claim it was made for; empty where it is not known.
        where: the directory, or the pool and the image, as the storage's own tools name it.
        size: in bytes; 0 where it is not known.
        created: None where it is not known.
        deleted: when it went to the trash; None where it is not there.
        expires: when the trash may be emptied of it; None where it is not there.
        access_modes: that it was made for, in Kubernetes' words.
        block: whether it was made for raw block use.
    """

    id: model.VolumeId
    name: str
    claim: str
    where: str
    size: int
    state: State
    created: datetime.datetime | None = None
    deleted: datetime.datetime | None = None
    expires: datetime.datetime | None = None
    access_modes: tuple[str, ...] = ()
    block: bool = False


class Inventory(Protocol):
    """Tells what there is, and gives back what was deleted."""

    def entries(self) -> Iterable[Entry]:
        """Every volume, those in the trash too, in no order.

        Raises:
            errors.BackendUnavailableError: the storage cannot be read now.
        """

    def restore(self, volume_id: model.VolumeId, name: str) -> Entry:
        """Take the volume out of the trash, under this name, or its old one where `name` is empty.

        Of several that were deleted under one id it is the one that was deleted last. One that is not in the trash but
        in place already is not an error.

        Raises:
            errors.VolumeNotFoundError: the trash holds no such volume.
            errors.VolumeExistsError: there is another volume of this name.
            errors.NotReadyError: its retention is over, and its removal may have begun.
            errors.UnsupportedError: this storage gives no new names.
        """


def orphans(
    entries: Iterable[Entry], known: Collection[str], *, grace: datetime.timedelta, now: datetime.datetime
) -> Iterator[Entry]:
    """The volumes in place that nobody knows and that were not made just now; nothing is done to them.

    Args:
        known: the ids that PersistentVolumes name.
        grace: how long a new volume may be without one.
    """
    for entry in entries:
        is_old = entry.created is None or now - entry.created > grace
        if entry.state is not State.TRASH and str(entry.id) not in known and is_old:
            yield entry
