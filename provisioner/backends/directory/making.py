"""Makes volumes: the size is promised first, then the volume is built aside, and a rename makes it appear whole."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Iterator

import structlog

from provisioner import errors, linux
from provisioner.backends.directory import faults, files, ids, pool, records, removal, room, session

_log = structlog.get_logger(__name__)

_VOLUME_MODE = 0o2770
"""For root and its group; the kubelet gives the group to the Pod's fsGroup, and setgid to what is made below."""


class Maker:
    """Makes the volumes of one pool.

    What is being built is locked by the process that builds it, so that others can tell what a killed one left.
    `shared`: every node mounts the pool, so no other node has a larger one.
    `steps` is told each step that was reached, so that a test can stop the process there.
    """

    def __init__(self, of: pool.Pool, *, shared: bool, steps: Callable[[str], None]) -> None:
        self._pool = of
        self._shared = shared
        self._steps = steps

    def create(self, volume: ids.DirectoryId, record: records.Record) -> records.Record:
        """Make the volume; returns the record of the one that exists, where there is one already.

        Raises:
            errors.SizeOutOfRangeError: the pool could not hold it if it were empty, and every node has this one.
            errors.InsufficientCapacityError: it cannot hold it, now or ever; another node's may.
            errors.OperationPendingError: another process is making it.
        """
        with self._pool.opened() as opened:
            existing = self._pool.find_in(opened, volume)
            if existing is not None:
                return existing
            name, built = self._reserve(opened, volume, record)
            try:
                return self._build(opened, volume, record, name, built)
            except BaseException:
                self._abandon(opened, volume, name)
                raise
            finally:
                os.close(built)

    def sweep(self) -> None:
        """Remove what killed processes were building."""
        with self._pool.opened() as opened, self._pool.lock.held(opened) as lock:
            self._pool.ledger.refresh(opened.places, lock.generation)
            for name, volume in _staged(opened):
                with contextlib.suppress(errors.OperationPendingError):
                    self._discard_if_dead(opened, lock, name, volume)

    def _reserve(self, opened: session.Session, volume: ids.DirectoryId, record: records.Record) -> tuple[str, int]:
        """Promise the size by writing the record into a new staging directory; its open record is locked."""
        with self._pool.lock.held(opened) as lock:
            for name, staged in _staged(opened):
                if staged == volume:
                    self._discard_if_dead(opened, lock, name, volume)
            self._check_room(self._pool.reckon(opened, lock), record.size)
            name = ids.new_staging_name(volume)
            generation = lock.count_change()
            os.mkdir(name, 0o700, dir_fd=opened.staging)
            with files.directory(opened.staging, name) as fd:
                built = records.create(fd, record)
                fcntl.flock(built, fcntl.LOCK_EX)
                self._pool.ledger.add(fd, record, generation=generation)
        self._steps("create.reserved")
        return name, built

    def _check_room(self, found: room.Room, size: int) -> None:
        if size > found.size:
            # OUT_OF_RANGE would say that no other node need be tried (CSI: RESOURCE_EXHAUSTED of CreateVolume).
            kind = errors.SizeOutOfRangeError if self._shared else errors.InsufficientCapacityError
            raise kind(
                f"{size} bytes were asked for, and pool {self._pool.name} can hold {found.size} when it is empty",
                remedy="ask for less, or use a larger pool",
            )
        if size > found.available:
            raise errors.InsufficientCapacityError(
                f"{size} bytes were asked for, and pool {self._pool.name} has {found.available} left to promise; "
                "deleted volumes count until they are purged",
                remedy="delete volumes, or enlarge the pool",
            )

    def _build(
        self,
        opened: session.Session,
        volume: ids.DirectoryId,
        record: records.Record,
        name: str,
        built: int,
    ) -> records.Record:
        with files.directory(opened.staging, name) as fd:
            os.mkdir(session.DATA, 0o700, dir_fd=fd)
            with files.directory(fd, session.DATA) as data:
                os.fchown(data, 0, 0)
                os.fchmod(data, _VOLUME_MODE)
                self._steps("create.built")
                os.fsync(data)
            os.fsync(built)
            os.fsync(fd)
        self._steps("create.synced")
        try:
            linux.rename_noreplace(opened.staging, name, opened.volumes, str(volume))
        except FileExistsError:
            existing = self._pool.find_in(opened, volume)
            if existing is None:
                raise
            self._abandon(opened, volume, name)
            os.fsync(opened.volumes)
            return existing
        self._steps("create.committed")
        os.fsync(opened.volumes)
        return record

    def _abandon(self, opened: session.Session, volume: ids.DirectoryId, name: str) -> None:
        """Take a promise back, where its volume was not made after all."""
        with self._pool.lock.held(opened) as lock:
            self._discard(opened, lock, name, volume)

    def _discard_if_dead(self, opened: session.Session, lock: session.Lock, name: str, volume: ids.DirectoryId) -> None:
        """Remove what a killed process was building.

        Raises:
            errors.OperationPendingError: a living process builds it.
        """
        try:
            with files.directory(opened.staging, name) as fd:
                record = linux.openat2(fd, records.NAME, os.O_RDWR, resolve=linux.BENEATH)
        except OSError as error:
            if error.errno not in {errno.ENOENT, *faults.TAMPERED}:
                raise
        else:
            try:
                fcntl.flock(record, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise errors.OperationPendingError(
                    f"another process is making volume {volume}", remedy="call again later"
                ) from None
            finally:
                os.close(record)
        self._discard(opened, lock, name, volume)

    def _discard(self, opened: session.Session, lock: session.Lock, name: str, volume: ids.DirectoryId) -> None:
        try:
            inode = os.stat(name, dir_fd=opened.staging, follow_symlinks=False).st_ino
            generation = lock.count_change()
            removal.discard_unbuilt(opened.staging, name, records.NAME)
        except FileNotFoundError:
            return
        except OSError as error:
            _log.error("what was being built cannot be removed", pool=self._pool.name, name=name, error=str(error))
            return
        self._pool.ledger.forget(inode, str(volume), generation=generation)


def _staged(opened: session.Session) -> Iterator[tuple[str, ids.DirectoryId]]:
    for entry in files.entries(opened.staging):
        volume = ids.staged_volume(entry.name)
        if volume is not None:
            yield entry.name, volume
