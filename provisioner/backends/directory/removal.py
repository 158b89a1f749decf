"""Removes a deleted volume's tree, and never anything else.

`shutil.rmtree` and `rm --one-file-system` walk through a bind mount of the same filesystem and delete what is behind
it. Here every directory is opened with openat2: a symlink or any mount point ends the descent, and whatever cannot be
removed stays. The walk holds a bounded number of open directories, however deep the tree is, and what it has removed
is removed, so that an interrupted walk goes on where it was.
"""

import contextlib
import os
import secrets
from collections.abc import Callable

from provisioner.backends.directory import files

_DEPTH = 64


class RemovalStoppedError(Exception):
    """The time for removing was over; what is left is removed next time."""


def empty(directory: int, *, keep: str, may_go_on: Callable[[], bool]) -> None:
    """Remove everything in the open directory but the entry `keep`.

    Raises:
        RemovalStoppedError: `may_go_on` said no.
        OSError: something could not be removed: EXDEV or EBUSY for a mount, EPERM for an immutable file. All that
            could be removed is gone.
    """
    walk = _Walk(directory, keep, may_go_on)
    while walk.sweep(directory, 0):
        pass
    if walk.failure is not None:
        raise walk.failure


class _Walk:
    """One removal: where it began, and the first thing that could not be removed."""

    def __init__(self, top: int, keep: str, may_go_on: Callable[[], bool]) -> None:
        self._top = top
        self._keep = keep
        self._may_go_on = may_go_on
        self.failure: OSError | None = None

    def sweep(self, directory: int, depth: int) -> bool:
        """Empty one directory. Returns whether a deep subtree was hung up under the top, to be swept from there."""
        hung_up = False
        with os.scandir(directory) as scan:
            for entry in scan:
                if not self._may_go_on():
                    raise RemovalStoppedError
                if depth == 0 and entry.name == self._keep:
                    continue
                try:
                    hung_up |= self._remove(directory, entry, depth)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    # The first is the cause: a directory above one that cannot be emptied cannot be removed either.
                    self.failure = self.failure or error
        return hung_up

    def _remove(self, directory: int, entry: os.DirEntry[str], depth: int) -> bool:
        if not entry.is_dir(follow_symlinks=False):
            os.unlink(entry.name, dir_fd=directory)
            return False
        if depth == _DEPTH:
            os.rename(entry.name, f"deep.{secrets.token_hex(8)}", src_dir_fd=directory, dst_dir_fd=self._top)
            return True
        with files.directory(directory, entry.name) as below:
            hung_up = self.sweep(below, depth + 1)
        os.rmdir(entry.name, dir_fd=directory)
        return hung_up


def discard_unbuilt(place: int, name: str, record: str) -> None:
    """Remove a volume that was never finished: its record and an empty data directory, nothing else.

    Raises:
        OSError: it holds more than that (ENOTEMPTY), so it is left alone.
    """
    with contextlib.suppress(FileNotFoundError):
        with files.directory(place, name) as fd:
            with contextlib.suppress(FileNotFoundError):
                os.rmdir("data", dir_fd=fd)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(record, dir_fd=fd)
        os.rmdir(name, dir_fd=place)
