"""How many bytes a pool has promised, kept in memory so that a new volume costs the same with ten thousand others.

The truth is on disk: the records in `volumes`, `staging` and `trash`. Every change of their sum is made under the
pool's lock and counted in the lock file, by whichever process makes it. Who finds the count as he left it knows that
his sum still holds; who does not lists the directories again and reads the records that he does not know.
"""

import os
from collections.abc import Callable

from provisioner import errors
from provisioner.backends.directory import files, ids, records

Key = tuple[int, str]
"""Inode of a volume's directory, which a rename between the places keeps, and the volume's id."""


class Ledger:
    """The sizes of everything in one pool. Used under the pool's lock only."""

    def __init__(self, *, on_fault: Callable[[ids.DirectoryId, errors.VolumeQuarantinedError], None]) -> None:
        self._on_fault = on_fault
        self._generation: int | None = None
        self._sizes: dict[Key, int] = {}
        self.promised = 0

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
                    size = self._sizes.get(key) or self._size(place, entry.name, volume)
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

    def _size(self, place: int, name: str, volume: ids.DirectoryId) -> int:
        """The promised size; nothing where the record is unreadable: what the volume uses lowers the free space."""
        try:
            with files.directory(place, name) as fd:
                return records.read(fd, volume).size
        except FileNotFoundError:
            return 0  # Renamed meanwhile: it is met again.
        except OSError as error:
            fault = records.quarantined(volume, f"cannot be reached: {error.strerror}")
        except errors.VolumeQuarantinedError as error:
            fault = error
        self._on_fault(volume, fault)
        return 0


def _volume_of(name: str) -> ids.DirectoryId | None:
    trashed = ids.TrashName.parse(name)
    return ids.DirectoryId.parse(trashed.volume if trashed else name) or ids.staged_volume(name)
