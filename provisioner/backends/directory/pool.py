"""One pool: opened for each operation, judged, and reckoned with.

`making` builds volumes in `staging` and renames them to `volumes`; `trash` renames them to `trash` and removes them.
Where a volume lies is what it is, every rename is atomic, and a step that was reached is durable before the next one
is begun; so a process that is killed anywhere leaves either no volume, or a whole one, or a deleted one. Several
processes may work on a pool at once.
"""

import contextlib
import datetime
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import structlog

from provisioner import errors, metrics
from provisioner.backends.directory import (
    config,
    faults,
    files,
    ids,
    ledger,
    marker,
    memory,
    records,
    reserve,
    session,
)
from provisioner.backends.directory import room as rooms

_log = structlog.get_logger(__name__)

_PROBE = ".probe"


class Pool:
    """A pool of directories. Thread-safe.

    Attributes:
        lock: of the sum of promises, among threads and processes.
        ledger: that sum; used under the lock only.
    """

    def __init__(
        self,
        name: str,
        settings: config.DirectoryConfig,
        *,
        measured: metrics.Metrics,
        clock: Callable[[], datetime.datetime],
    ) -> None:
        self.name = name
        self.path = Path(settings.pools[name])
        self.lock = session.PoolLock(name)
        self.ledger = ledger.Ledger()
        self._settings = settings
        self._metrics = measured
        self._clock = clock
        self._quarantined: dict[ids.DirectoryId, str] = {}
        self._complaint = ""
        self._memory = memory.Memory(settings.memory)
        self._uuid = ""
        self._recognising = threading.Lock()

    def initialise(self) -> None:
        """Make the pool where its directory is empty, or missing in an existing parent. Idempotent.

        Raises:
            errors.BackendUnavailableError: the directory holds something else, or cannot be written.
        """
        with faults.translated(self.name):
            try:
                self.path.mkdir(0o700)
            except FileExistsError:
                pass
            except FileNotFoundError as error:
                raise errors.BackendUnavailableError(
                    f"pool {self.name}: {self.path} cannot be made: there is no directory {self.path.parent}",
                    remedy="make it, or mount the disk there",
                ) from error
            root = session.open_root(self.name, self.path)
            try:
                if not files.exists(root, marker.NAME):
                    self._refuse_remembered()
                marker.make_pool(root, name=self.name, path=str(self.path), now=self._clock())
                reserve.take(root)
            finally:
                os.close(root)

    def _refuse_remembered(self) -> None:
        """Where there is no pool, say so in the words for one that has been there."""
        remembered = self._memory.recall(self.name)
        if remembered:
            raise errors.BackendUnavailableError(
                f"pool {self.name}: {self.path} is not a pool now, and this node had pool {remembered} there: its "
                "filesystem is not mounted, or was wiped",
                remedy=f"mount it; to begin anew without its volumes, remove {self._memory.place(self.name)}",
            )

    @contextlib.contextmanager
    def opened(self) -> Iterator[session.Session]:
        """Open the pool for one operation.

        Raises:
            errors.BackendUnavailableError: it cannot be used now, or its disk is not the one it was.
            errors.InsufficientCapacityError: its filesystem became full on the way.
        """
        with faults.translated(self.name), contextlib.ExitStack() as stack:
            try:
                opened = stack.enter_context(session.opened(self.name, self.path))
            except marker.NoPoolError:
                self._refuse_remembered()
                raise
            self._recognise(opened.marker.pool)
            yield opened

    def _recognise(self, pool: str) -> None:
        """Refuse another pool than the one that was here before; remember one that is new.

        Raises:
            errors.BackendUnavailableError: it is another one, or cannot be remembered.
        """
        if pool == self._uuid:
            return
        with self._recognising:
            known = self._uuid or self._memory.recall(self.name)
            if not known:
                self._memory.keep(self.name, pool)
                known = pool
        if known != pool:
            raise errors.BackendUnavailableError(
                f"pool {self.name}: {self.path} holds another pool than before, {pool} instead of {known}: "
                "the disk was replaced",
                remedy=f"mount the right one; to use the new one, remove {self._memory.place(self.name)} and restart",
            )
        self._uuid = pool

    def digits(self) -> str:
        """What the ids of this pool's volumes carry.

        Raises:
            errors.BackendUnavailableError: the pool has not been seen since the process began.
        """
        if not self._uuid:
            with self.opened():
                pass
        return ids.pool_digits(self._uuid)

    def probe(self) -> None:
        """Write, sync and remove a small file.

        Raises:
            errors.BackendUnavailableError: the pool cannot be written.
            errors.InsufficientCapacityError: its filesystem is full.
        """
        with self.opened() as opened:
            flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(_PROBE, flags, 0o600, dir_fd=opened.root)
            try:
                files.write(fd, b"probe\n")
                os.fsync(fd)
            finally:
                os.close(fd)
                with contextlib.suppress(FileNotFoundError):  # Another process probes as well.
                    os.unlink(_PROBE, dir_fd=opened.root)
            with self.lock.held(opened) as lock:
                self.reckon(opened, lock)
        if self._complaint:
            self._complaint = ""
            _log.info("pool works again", pool=self.name)

    def room(self) -> rooms.Room:
        """The room in the pool."""
        with self.opened() as opened, self.lock.held(opened) as lock:
            return self.reckon(opened, lock)

    def find(self, volume: ids.DirectoryId) -> records.Record | None:
        """The volume's record; None where there is no such volume.

        Raises:
            errors.VolumeQuarantinedError: it is unreadable.
        """
        with self.opened() as opened:
            return self.find_in(opened, volume)

    def confirm(self, volume: ids.DirectoryId) -> records.Record | None:
        """As `find`, and durable: whoever made the volume may have been killed before he could see to that."""
        with self.opened() as opened:
            record = self.find_in(opened, volume)
            if record is not None:
                os.fsync(opened.volumes)
            return record

    def read(self, volumes: Iterable[ids.DirectoryId]) -> Iterator[records.Record]:
        """The records of those volumes that exist and are readable."""
        with self.opened() as opened:
            for volume in volumes:
                with contextlib.suppress(errors.VolumeQuarantinedError):
                    record = self.find_in(opened, volume)
                    if record is not None:
                        yield record

    def inspect(self) -> None:
        """Read every record, so that an unreadable one is known before somebody needs it."""
        volumes = self.volumes()
        for gone in self._quarantined.keys() - set(volumes):
            self._quarantined.pop(gone, None)
        for _ in self.read(volumes):
            pass
        self._count_quarantined()

    def volumes(self) -> list[ids.DirectoryId]:
        """The volumes that there are, readable or not."""
        with self.opened() as opened:
            found = (ids.DirectoryId.parse(entry.name) for entry in files.entries(opened.volumes))
            return [volume for volume in found if volume is not None]

    def locate(self, volume: ids.DirectoryId) -> Path | None:
        """The volume's data directory, free of symlinks; None where there is no such volume.

        Raises:
            errors.VolumeQuarantinedError: the volume cannot be trusted.
        """
        with self.opened() as opened, opened.volume(volume) as fd:
            if fd is None:
                return None
            records.read(fd, volume)
            with self._data(fd, volume) as data:
                return Path(f"/proc/self/fd/{data}").readlink()

    def measure(self, volume: ids.DirectoryId, meter: Callable[[int], int]) -> tuple[int, int, int] | None:
        """Size, bytes used (as `meter` tells of the open data directory), and bytes free in the pool."""
        with self.opened() as opened, opened.volume(volume) as fd:
            if fd is None:
                return None
            size = records.read(fd, volume).size
            with self._data(fd, volume) as data:
                used = meter(data)
            free = os.fstatvfs(opened.root)
            return size, used, free.f_bavail * free.f_frsize

    def report(self, volume: ids.DirectoryId, fault: errors.VolumeQuarantinedError) -> None:
        """Count a quarantined volume, and log it once."""
        if self._quarantined.get(volume) != fault.message:
            self._quarantined[volume] = fault.message
            self._count_quarantined()
            _log.error("volume quarantined", pool=self.name, volume=str(volume), error=str(fault))

    def complain(self, error: errors.ProvisionerError) -> None:
        """Log why the pool cannot be used; once, until it works again or fails otherwise."""
        if self._complaint != error.message:
            self._complaint = error.message
            _log.warning("pool cannot be used", pool=self.name, error=str(error))

    def _count_quarantined(self) -> None:
        self._metrics.quarantined_volumes.labels(self.name).set(len(self._quarantined))

    def find_in(self, opened: session.Session, volume: ids.DirectoryId) -> records.Record | None:
        """As `find`, in the open pool."""
        try:
            record = opened.record(volume)
        except errors.VolumeQuarantinedError as fault:
            self.report(volume, fault)
            raise
        if self._quarantined.pop(volume, ""):
            self._count_quarantined()
        return record

    @contextlib.contextmanager
    def _data(self, volume_dir: int, volume: ids.DirectoryId) -> Iterator[int]:
        try:
            fd = files.open_directory(volume_dir, session.DATA)
        except OSError as error:
            fault = errors.VolumeQuarantinedError(
                f"volume {volume} is quarantined: its directory {session.DATA} is missing, or is a symlink or a mount",
                remedy="see who changed the pool",
            )
            self.report(volume, fault)
            raise fault from error
        try:
            yield fd
        finally:
            os.close(fd)

    def reckon(self, opened: session.Session, lock: session.Lock) -> rooms.Room:
        """The room, given the lock; says it in the metrics too."""
        self.ledger.refresh(opened.places, lock.generation)
        found = rooms.reckon(
            os.fstatvfs(opened.root),
            foreign=opened.marker.foreign + reserve.held(opened.root),
            promised=self.ledger.promised,
            volumes=self.ledger.volumes,
            spare=self._settings.spare,
        )
        for state in ("size", "free", "promised", "available"):
            self._metrics.pool_bytes.labels(self.name, state).set(getattr(found, state))
        return found
