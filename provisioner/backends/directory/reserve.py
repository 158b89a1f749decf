"""A little room that a pool holds back, so that one which its volumes have filled can still delete.

A deletion is a rename into the trash, and a filesystem may need a block for the longer directory: XFS wants dozens
free before it even begins, ext4 one for every forty names. Without any, nothing could be deleted until the retention
of what lies in the trash is over. The room is a file in the pool's root, given up for the moment of the rename.
"""

import contextlib
import os
from collections.abc import Iterator

from provisioner import model
from provisioner.backends.directory import faults

NAME = ".reserve"
SIZE = model.MIB
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


def take(root: int) -> None:
    """Hold back as much of `SIZE` bytes as there is room for. Idempotent.

    Raises:
        OSError: the pool cannot be written, for another reason than that it is full.
    """
    with _though_full(), _opened(root) as fd:
        size = SIZE
        while size > os.fstat(fd).st_size:
            with _though_full():
                os.posix_fallocate(fd, 0, size)
            size //= 2


def held(root: int) -> int:
    """Bytes that are held back now."""
    try:
        return os.stat(NAME, dir_fd=root, follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0


@contextlib.contextmanager
def given_up(root: int) -> Iterator[None]:
    """Free the room for a while; what is left of it afterwards is held back again."""
    with _opened(root) as fd:
        os.ftruncate(fd, 0)
        os.fsync(fd)  # Freed blocks can be used once the journal has them.
    try:
        yield
    finally:
        take(root)


@contextlib.contextmanager
def _though_full() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in faults.FULL:
            raise


@contextlib.contextmanager
def _opened(root: int) -> Iterator[int]:
    fd = os.open(NAME, _FLAGS, 0o600, dir_fd=root)
    try:
        yield fd
    finally:
        os.close(fd)
