"""The paths at which the kubelet wants volumes to appear, as open files below open parents.

All work is done on what was opened: a path that is swapped for a symlink meanwhile cannot lead a mount elsewhere.
"""

import contextlib
import dataclasses
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from provisioner import errors, linux
from provisioner.node import mountinfo

_DIRECTORY_MODE = 0o750
_FILE_MODE = 0o640


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """An open target, and its name below its open parent."""

    fd: int
    parent_fd: int
    path: Path

    @property
    def place(self) -> str:
        """A path that leads to the target through the open parent, whatever is renamed above it."""
        return f"/proc/self/fd/{self.parent_fd}/{self.path.name}"

    def mount(self) -> mountinfo.Mount | None:
        """What is mounted on the target, if anything."""
        if mountinfo.mount_id(self.fd) == mountinfo.mount_id(self.parent_fd):
            return None
        return mountinfo.mount_of(self.fd)


@contextlib.contextmanager
def parent(target: Path) -> Iterator[int]:
    """The target's parent, opened; FileNotFoundError where there is none."""
    fd = os.open(target.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def directory(path: Path) -> Iterator[Target]:
    """The directory at the path, made where there is none; a failure of the block leaves no empty one behind.

    Raises:
        errors.InvalidRequestError: there is something else, or the parent is no directory.
    """
    try:
        parent_fd = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise errors.InvalidRequestError(
            f"the target path's parent {path.parent} is no directory", remedy="the kubelet makes it"
        ) from error
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, parent_fd)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path.name, _DIRECTORY_MODE, dir_fd=parent_fd)
            # A refused publication leaves nothing behind; nobody would unpublish it.
            stack.push(lambda kind, *_: _remove_empty(parent_fd, path) if kind else None)
        fd = open_directory(parent_fd, path)
        stack.callback(os.close, fd)
        yield Target(fd, parent_fd, path)


def _remove_empty(parent_fd: int, path: Path) -> None:
    with contextlib.suppress(OSError):
        os.rmdir(path.name, dir_fd=parent_fd)


def open_directory(parent_fd: int, path: Path) -> int:
    """Open the directory of the path's last name below its parent.

    Raises:
        errors.InvalidRequestError: it is a symlink or a file.
    """
    try:
        return linux.openat2(
            parent_fd,
            path.name,
            os.O_PATH | os.O_DIRECTORY,
            resolve=linux.RESOLVE_BENEATH | linux.RESOLVE_NO_SYMLINKS,
        )
    except OSError as error:
        if error.errno not in {errno.ELOOP, errno.ENOTDIR}:
            raise
        raise errors.InvalidRequestError(
            f"the target path {path} is a {'symlink' if error.errno == errno.ELOOP else 'file'}, not a directory",
            remedy="remove it",
        ) from error


@contextlib.contextmanager
def file(path: Path) -> Iterator[Target]:
    """The file at the path, made empty where there is none; a failure of the block leaves no new one behind.

    Raises:
        errors.InvalidRequestError: there is a directory or a symlink, or the parent is no directory.
    """
    with contextlib.ExitStack() as stack:
        try:
            parent_fd = stack.enter_context(parent(path))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise errors.InvalidRequestError(
                f"the target path's parent {path.parent} is no directory", remedy="the kubelet makes it"
            ) from error
        with contextlib.suppress(FileExistsError):
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(path.name, flags, _FILE_MODE, dir_fd=parent_fd))
            stack.push(lambda kind, *_: _remove_file(parent_fd, path) if kind else None)
        fd = os.open(path.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)
        stack.callback(os.close, fd)
        mode = os.fstat(fd).st_mode
        if stat.S_ISLNK(mode) or stat.S_ISDIR(mode):
            raise errors.InvalidRequestError(
                f"the target path {path} is a {'symlink' if stat.S_ISLNK(mode) else 'directory'}, not a file",
                remedy="remove it",
            )
        yield Target(fd, parent_fd, path)


def _remove_file(parent_fd: int, path: Path) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path.name, dir_fd=parent_fd)
