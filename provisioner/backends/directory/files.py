"""Files below an open directory: no symlink is followed and no other mount entered (`linux.BENEATH`)."""

import contextlib
import os
from collections.abc import Iterator

from provisioner import linux

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY


def open_directory(parent: int, name: str) -> int:
    """Open a directory below another one.

    Raises:
        OSError: ENOENT; ELOOP or ENOTDIR for a symlink or a file; EXDEV for a mount point.
    """
    return linux.openat2(parent, name, _DIRECTORY, resolve=linux.BENEATH)


@contextlib.contextmanager
def directory(parent: int, name: str) -> Iterator[int]:
    """As `open_directory`, closed at the end."""
    fd = open_directory(parent, name)
    try:
        yield fd
    finally:
        os.close(fd)


def read(parent: int, name: str, *, limit: int) -> bytes:
    """The first `limit` bytes of a regular file."""
    fd = linux.openat2(parent, name, os.O_RDONLY | os.O_NONBLOCK, resolve=linux.BENEATH)
    try:
        return os.read(fd, limit)
    finally:
        os.close(fd)


def write(fd: int, data: bytes) -> None:
    """Write all of it; on a disk that is almost full, a single call may write a part."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def replace(parent: int, name: str, data: bytes) -> None:
    """Write a file so that after a crash it has either its old content or the new, and is durable."""
    temporary = f"{name}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=parent)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(temporary, flags, 0o600, dir_fd=parent)
    try:
        write(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
    os.fsync(parent)


def entries(parent: int) -> list[os.DirEntry[str]]:
    """What an open directory holds."""
    with os.scandir(parent) as scan:
        return list(scan)


def exists(parent: int, name: str) -> bool:
    """Whether there is anything of this name."""
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
