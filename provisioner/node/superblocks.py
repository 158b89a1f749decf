"""What a filesystem says of itself in its first block: how large it is, and whether it is whole.

The fields are those of ext4's and XFS's on-disk formats, which do not change. They are read from the device, so the
answer for a mounted XFS may be older than its last growth.
"""

import dataclasses
import os
import struct
from pathlib import Path

_EXT_START = 1024
_EXT_ERRORS = 0x0002
_EXT_64BIT = 0x0080
_XFS_MAGIC = b"XFSB"
_BYTES = 4096


@dataclasses.dataclass(frozen=True, slots=True)
class Superblock:
    """A filesystem's own account.

    Attributes:
        size: in bytes.
        damaged: it has met an error, and wants to be checked before it is mounted (ext4).
        unfinished: its mkfs did not come to the end (XFS; ext4 writes its first block last).
    """

    size: int
    damaged: bool = False
    unfinished: bool = False


def read(device: Path, fs_type: str) -> Superblock:
    """The first block of the filesystem `fs_type`, ext4 or xfs, which must be on the device.

    Raises:
        OSError: the device cannot be read.
    """
    fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        block = os.pread(fd, _BYTES, 0)
    finally:
        os.close(fd)
    return _xfs(block) if fs_type == "xfs" else _ext(block[_EXT_START:])


def _ext(block: bytes) -> Superblock:
    (blocks,) = struct.unpack_from("<I", block, 0x4)
    (exponent,) = struct.unpack_from("<I", block, 0x18)
    (state,) = struct.unpack_from("<H", block, 0x3A)
    (incompatible,) = struct.unpack_from("<I", block, 0x60)
    if incompatible & _EXT_64BIT:
        blocks |= struct.unpack_from("<I", block, 0x150)[0] << 32
    return Superblock(blocks << (10 + exponent), damaged=bool(state & _EXT_ERRORS))


def _xfs(block: bytes) -> Superblock:
    block_size, blocks = struct.unpack_from(">IQ", block, 4)
    return Superblock(block_size * blocks, unfinished=block[126] != 0)
