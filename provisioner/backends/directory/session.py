"""One operation's look at a pool: its root and places opened, its marker judged, everything closed at the end.

Nothing is kept open between operations, so a pool's disk can be unmounted, and once it is mended and mounted again
the next operation works.
"""

import contextlib
import dataclasses
import errno
import fcntl
import os
import stat
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from provisioner import errors, linux
from provisioner.backends.directory import faults, files, ids, marker, records

DATA = "data"
_LOCK_SECONDS = 30.0
_LOCK_POLL_SECONDS = 0.0005
_COUNT = struct.Struct("<Q")


@dataclasses.dataclass(frozen=True, slots=True)
class Session:
    """An open pool."""

    root: int
    marker: marker.Marker
    places: dict[str, int]

    @property
    def staging(self) -> int:
        """Where volumes are built."""
        return self.places["staging"]

    @property
    def volumes(self) -> int:
        """Where volumes are."""
        return self.places["volumes"]

    @property
    def trash(self) -> int:
        """Where deleted volumes are."""
        return self.places["trash"]

    @contextlib.contextmanager
    def volume(self, volume: ids.DirectoryId) -> Iterator[int | None]:
        """The open directory of a volume; None where there is no such volume.

        Raises:
            errors.VolumeQuarantinedError: there is something else than a directory in its place.
        """
        try:
            fd = files.open_directory(self.volumes, str(volume))
        except FileNotFoundError:
            yield None
            return
        except OSError as error:
            if error.errno not in faults.TAMPERED:
                raise
            raise errors.VolumeQuarantinedError(
                f"volume {volume} is quarantined: a symlink, a file or a mount is in its directory's place",
                remedy="see who changed the pool; the volume may be elsewhere",
            ) from error
        try:
            yield fd
        finally:
            os.close(fd)

    def record(self, volume: ids.DirectoryId) -> records.Record | None:
        """The record of a volume; None where there is no such volume.

        Raises:
            errors.VolumeQuarantinedError: it is unreadable.
        """
        with self.volume(volume) as fd:
            return None if fd is None else records.read(fd, volume)


@contextlib.contextmanager
def opened(name: str, path: Path) -> Iterator[Session]:
    """Open a pool.

    Raises:
        errors.BackendUnavailableError: it is not there, or is not the one it should be.
    """
    with contextlib.ExitStack() as stack:
        root = open_root(name, path)
        stack.callback(os.close, root)
        _refuse_open_to_others(root, name, path)
        judged = marker.read(root, name=name, path=str(path))
        places = {place: stack.enter_context(files.directory(root, place)) for place in marker.PLACES}
        yield Session(root, judged, places)


def open_root(name: str, path: Path) -> int:
    """Open the pool's root, which may be reached through symlinks but must not be one.

    Raises:
        errors.BackendUnavailableError: it is no directory.
    """
    try:
        return linux.openat2(None, str(path), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, resolve=0)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise errors.BackendUnavailableError(
                f"pool {name}: there is no directory {path}", remedy="make it and mount the pool's filesystem there"
            ) from error
        if error.errno in faults.TAMPERED:
            raise errors.BackendUnavailableError(
                f"pool {name}: {path} is a symlink or a file, not a directory", remedy="name the directory itself"
            ) from error
        raise


def _refuse_open_to_others(root: int, name: str, path: Path) -> None:
    if os.fstat(root).st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise errors.BackendUnavailableError(
            f"pool {name}: others may write to {path}", remedy=f"chmod 0700 {path}, and see what is in it"
        )


class Lock:
    """The pool's lock, held; and the count of changes of what is promised, which the lock file keeps."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        stored = os.pread(fd, _COUNT.size, 0)
        self.generation = _COUNT.unpack(stored)[0] if len(stored) == _COUNT.size else 0

    def count_change(self) -> int:
        """Tell other processes that the sum of promises has changed; returns the new count."""
        self.generation += 1
        os.pwrite(self._fd, _COUNT.pack(self.generation), 0)
        return self.generation


class PoolLock:
    """One per pool and process: first among the process's threads, then among processes."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._threads = threading.Lock()

    @contextlib.contextmanager
    def held(self, session: Session) -> Iterator[Lock]:
        """Hold the lock.

        Raises:
            errors.OperationPendingError: somebody holds it for longer than this program ever does.
        """
        deadline = time.monotonic() + _LOCK_SECONDS
        if not self._threads.acquire(timeout=_LOCK_SECONDS):
            raise self._busy()
        try:
            fd = linux.openat2(session.root, marker.LOCK, os.O_RDWR | os.O_CREAT, mode=0o600, resolve=linux.BENEATH)
            try:
                self._lock(fd, deadline)
                yield Lock(fd)
            finally:
                os.close(fd)
        finally:
            self._threads.release()

    def _lock(self, fd: int, deadline: float) -> None:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise self._busy() from None
                time.sleep(_LOCK_POLL_SECONDS)
            else:
                return

    def _busy(self) -> errors.OperationPendingError:
        return errors.OperationPendingError(
            f"pool {self._name} is locked by another process", remedy="end it if it hangs"
        )
