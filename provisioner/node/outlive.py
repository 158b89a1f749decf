"""Lets a process that serves a volume outlive this program's own container.

When a container ends, its runtime kills what is in the container's control group, whoever its parent is. With the
node's process table (hostPID) and network (hostNetwork), the control group is all that ties a process to the container;
so it is moved to the top one, where the node's own processes are. For that the container sees the node's /sys.
"""

import errno
from pathlib import Path

from provisioner import errors

CGROUPS = Path("/sys/fs/cgroup")
_MEMBERS = "cgroup.procs"
_NOT_FOR_US = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EINVAL, errno.ENODEV}
"""What a control group answers that nobody here may change, or that takes no processes."""


def leave_container(pid: int, *, top: Path = CGROUPS) -> None:
    """Move a process, with all its threads, to the top control group of each hierarchy. Idempotent.

    Where nothing may be moved, as on a machine without a container round this program, nothing happens.

    Args:
        pid: the process; 0 where its owner looked for it and found none.

    Raises:
        errors.BackendUnavailableError: there is no such process any more.
    """
    if not pid:  # It would be taken for this very process.
        raise errors.BackendUnavailableError("the process that serves a volume ended at once")
    for members in _tops(top):
        try:
            members.write_text(str(pid))
        except OSError as error:
            if error.errno == errno.ESRCH:
                raise errors.BackendUnavailableError(f"process {pid} ended at once") from error
            if error.errno not in _NOT_FOR_US:
                raise


def _tops(top: Path) -> list[Path]:
    """The top group of every hierarchy: one in version 2, several in version 1, some of these under two names."""
    if (top / _MEMBERS).exists():
        return [top / _MEMBERS]
    return sorted(path for path in top.glob(f"*/{_MEMBERS}") if not path.parent.is_symlink())
