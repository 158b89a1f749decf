"""How much room a pool has: a pure function of its filesystem, its marker and its promises.

What a plain directory uses is known only by walking it, so the room is reckoned from promises instead: what the
filesystem can hold, less what others used when the pool was made, less everything promised, deleted volumes included
until they are purged, and less what each volume's record and directories take; and never more than is free now. A
pool therefore wants a filesystem of its own: what others write to it later is noticed only when the free space runs
out.
"""

import dataclasses
import os

from provisioner import model

OVERHEAD = 16 * model.KIB
"""Bytes that a volume takes besides its size: a record and two directories, a block each, and their inodes."""


@dataclasses.dataclass(frozen=True, slots=True)
class Room:
    """Bytes of a pool: what it can hold, what is free on its filesystem, what is promised, what can still be."""

    size: int
    free: int
    promised: int
    available: int


def reckon(filesystem: os.statvfs_result, *, foreign: int, promised: int, volumes: int, spare: int) -> Room:
    """The room in a pool.

    Args:
        foreign: bytes that others used when the pool was made.
        promised: the sum of all volumes' sizes.
        volumes: how many there are.
        spare: bytes that are never promised.
    """
    reserved_for_root = filesystem.f_bfree - filesystem.f_bavail
    held = (filesystem.f_blocks - reserved_for_root) * filesystem.f_frsize - foreign
    size = max(0, held - spare)
    free = filesystem.f_bavail * filesystem.f_frsize
    available = min(size - promised - OVERHEAD * volumes, free) - OVERHEAD
    return Room(size=size, free=free, promised=promised, available=max(0, available))
