"""Deletes volumes: into the trash by a rename, and from there for good when the retention is over."""

import bisect
import contextlib
import dataclasses
import datetime
import os
from collections.abc import Callable

import structlog

from provisioner import errors, linux
from provisioner.backends.directory import faults, files, ids, occupancy, pool, records, removal, reserve, session

_log = structlog.get_logger(__name__)

_LATE = datetime.timedelta(seconds=10)
"""So long before a volume's retention is over it is no longer given back: its removal must not have begun."""


@dataclasses.dataclass(frozen=True, slots=True)
class Deleted:
    """A volume in the trash.

    Attributes:
        expires: when it may be removed for good.
    """

    name: ids.TrashName
    record: records.Record
    expires: datetime.datetime


class Trash:
    """The deleted volumes of one pool.

    `steps` is told each step that was reached, so that a test can stop the process there.
    """

    def __init__(
        self,
        of: pool.Pool,
        *,
        retention: datetime.timedelta,
        clock: Callable[[], datetime.datetime],
        steps: Callable[[str], None],
    ) -> None:
        self._pool = of
        self._retention = retention
        self._clock = clock
        self._steps = steps
        self._tried: ids.TrashName | None = None

    def delete(self, volume: ids.DirectoryId) -> None:
        """Move the volume to the trash, whole. Missing is not an error.

        Raises:
            errors.VolumeInUseError: it is mounted.
            errors.VolumeQuarantinedError: its record is unreadable.
        """
        with self._pool.opened() as opened, opened.volume(volume) as fd:
            if fd is None:
                os.fsync(opened.volumes)  # Whoever deleted it may have been killed before this.
                return
            self._pool.find_in(opened, volume)
            occupancy.refuse_in_use(fd, volume)
            self._steps("delete.checked")
            trashed = ids.TrashName(self._clock().astimezone(datetime.UTC), str(volume))
            try:
                _rename(opened, str(volume), str(trashed))
            except FileNotFoundError:
                pass  # Another process was faster, and may be killed before the deletion is durable.
            else:
                self._steps("delete.trashed")
                self._take_back_if_used(opened, volume, fd, trashed)
            os.fsync(opened.trash)
            os.fsync(opened.volumes)
            self._steps("delete.synced")

    def purge(self, *, may_go_on: Callable[[], bool]) -> int:
        """Remove for good what was deleted longer ago than the retention, beginning behind what was tried last.

        So a volume on which all the time is spent, again and again, does not keep the others waiting for ever.

        Returns:
            How many deleted volumes were removed. One that cannot be is logged, and tried again next time.
        """
        with self._pool.opened() as opened:
            reserve.take(opened.root)
            self._pool.ledger.distrust()
            limit = self._clock() - self._retention
            names = (ids.TrashName.parse(entry.name) for entry in files.entries(opened.trash))
            expired = sorted(name for name in names if name is not None and name.deleted <= limit)
            turn = 0 if self._tried is None else bisect.bisect_right(expired, self._tried)
            purged = sum(
                self._purge_one(opened, name, may_go_on) for name in expired[turn:] + expired[:turn] if may_go_on()
            )
        self._pool.room()
        return purged

    def deleted(self) -> list[Deleted]:
        """What is in the trash, the oldest first; without what cannot be read or is being removed."""
        found = []
        with self._pool.opened() as opened:
            names = (ids.TrashName.parse(entry.name) for entry in files.entries(opened.trash))
            for name in sorted(name for name in names if name is not None):
                volume = ids.DirectoryId.parse(name.volume)
                with contextlib.suppress(FileNotFoundError, errors.VolumeQuarantinedError):
                    if volume is not None:
                        with files.directory(opened.trash, str(name)) as fd:
                            found.append(Deleted(name, records.read(fd, volume), name.deleted + self._retention))
        return found

    def restore(self, deleted: Deleted) -> None:
        """Move a deleted volume back to its place; its size was counted as promised all the while.

        Raises:
            errors.NotReadyError: its retention is over, or as good as over.
            errors.VolumeExistsError: there is a volume of this id again.
            errors.VolumeNotFoundError: it is not in the trash any more.
        """
        if deleted.expires - _LATE <= self._clock():
            raise errors.NotReadyError(
                f"the retention of volume {deleted.record.id} is over, and its removal may have begun",
                remedy="a longer --trash-retention gives more time, to all that is in the trash",
            )
        with self._pool.opened() as opened, self._pool.lock.held(opened):
            try:
                linux.rename_noreplace(opened.trash, str(deleted.name), opened.volumes, deleted.record.id)
            except FileExistsError as error:
                raise errors.VolumeExistsError(
                    f"there is a volume {deleted.record.id} again, made after this one was deleted",
                    remedy="delete that one first; both are then in the trash",
                ) from error
            except FileNotFoundError as error:
                raise errors.VolumeNotFoundError(f"volume {deleted.record.id} is not in the trash any more") from error
            os.fsync(opened.volumes)
            os.fsync(opened.trash)

    def _take_back_if_used(
        self, opened: session.Session, volume: ids.DirectoryId, fd: int, trashed: ids.TrashName
    ) -> None:
        """Undo the deletion of a volume that was mounted between the check and the rename."""
        try:
            occupancy.refuse_in_use(fd, volume)
        except errors.VolumeInUseError:
            # A listing under the lock must not miss a volume that goes back.
            with self._pool.lock.held(opened):
                linux.rename_noreplace(opened.trash, str(trashed), opened.volumes, str(volume))
            raise

    def _purge_one(self, opened: session.Session, name: ids.TrashName, may_go_on: Callable[[], bool]) -> bool:
        self._tried = name
        volume = ids.DirectoryId.parse(name.volume)
        try:
            with files.directory(opened.trash, str(name)) as fd:
                if volume is not None:
                    occupancy.refuse_in_use(fd, volume)
                # The record goes last: until then the volume's size counts as promised.
                removal.empty(fd, keep=records.NAME, may_go_on=may_go_on)
                self._steps("purge.emptied")
                inode = os.fstat(fd).st_ino
                with self._pool.lock.held(opened) as lock:
                    generation = lock.count_change()
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(records.NAME, dir_fd=fd)
                    self._steps("purge.forgotten")
                    os.rmdir(str(name), dir_fd=opened.trash)
                    self._pool.ledger.forget(inode, name.volume, generation=generation)
        except removal.RemovalStoppedError:
            return False
        except FileNotFoundError:
            return False  # Another process was faster.
        except (OSError, errors.VolumeInUseError) as error:
            _log.error("deleted volume cannot be purged", pool=self._pool.name, volume=name.volume, error=str(error))
            return False
        _log.info("deleted volume purged", pool=self._pool.name, volume=name.volume, deleted=str(name.deleted))
        return True


def _rename(opened: session.Session, volume: str, trashed: str) -> None:
    """Move a volume to the trash, on a full disk by way of the reserve."""
    try:
        linux.rename_noreplace(opened.volumes, volume, opened.trash, trashed)
    except OSError as error:
        if error.errno not in faults.FULL:
            raise
        with reserve.given_up(opened.root):
            linux.rename_noreplace(opened.volumes, volume, opened.trash, trashed)
