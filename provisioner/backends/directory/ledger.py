"""How many bytes a pool has promised, kept in memory so that a new volume costs the same with ten thousand others.

The truth is on disk: the records in `volumes`, `staging` and `trash`. Every change of their sum is made under the
pool's lock and, just before, counted in the lock file, by whichever process makes it. Who finds the count as he left
it knows that his sum still holds; who does not lists the directories again and reads the records that he does not
know.
"""

import os

from provisioner import errors
from provisioner.backends.directory import files, ids, records

Key = tuple[int, str]
"""Inode of a volume's directory, which a rename between the places keeps, and the volume's id."""


class Ledger:
    """The sizes of everything in one pool. Used under the pool's lock only."""

    def __init__(self) -> None:
        self._generation: int | None = None
        self._sizes: dict[Key, int] = {}
        self.promised = 0

    @property
    def volumes(self) -> int:
        """How many volumes the promises are for."""
        return len(self._sizes)

    def refresh(self, places: dict[str, int], generation: int) -> None:
        """Make the sum true again; `generation` is the count in the lock file."""
        if generation == self._generation:
            return
        # In the order of a volume's life: one that is renamed meanwhile is met again, never missed.
        sizes: dict[Key, int] = {}
        for place in places.values():
            for entry in files.entries(place):
                volume = _volume_of(entry.name)
                if volume is not None:
                    key = (entry.inode(), str(volume))
                    size = self._sizes.get(key) or _size(place, entry.name, volume)
                    sizes[key] = size
        self._sizes = sizes
        self.promised = sum(sizes.values())
        self._generation = generation

    def add(self, volume_dir: int, record: records.Record, *, generation: int) -> None:
        """A volume was begun."""
        self._sizes[os.fstat(volume_dir).st_ino, record.id] = record.size
        self.promised += record.size
        self._advance(generation)

    def forget(self, inode: int, volume: str, *, generation: int) -> None:
        """A volume was removed for good."""
        self.promised -= self._sizes.pop((inode, volume), 0)
        self._advance(generation)

    def distrust(self) -> None:
        """List everything again next time: somebody may have changed the pool by hand."""
        self._generation = None

    def _advance(self, generation: int) -> None:
        """Keep the sum for true only if nobody else changed anything before this."""
        self._generation = generation if self._generation == generation - 1 else None


def _size(place: int, name: str, volume: ids.DirectoryId) -> int:
    """The promised size; nothing where the record is unreadable: what the volume uses lowers the free space."""
    try:
        with files.directory(place, name) as fd:
            return records.read(fd, volume).size
    except (OSError, errors.VolumeQuarantinedError):
        return 0  # Damaged, which `Pool.inspect` reports, or renamed meanwhile, and then it is met again.


def _volume_of(name: str) -> ids.DirectoryId | None:
    trashed = ids.TrashName.parse(name)
    return ids.DirectoryId.parse(trashed.volume if trashed else name) or ids.staged_volume(name)
