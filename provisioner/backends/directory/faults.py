"""What an error of the operating system means for a pool: the one place that turns `OSError` into our errors."""

import contextlib
import errno
from collections.abc import Iterator

from provisioner import errors

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
TAMPERED = frozenset({errno.ELOOP, errno.ENOTDIR, errno.EXDEV})

_MEANING = {
    errno.EROFS: ("is read-only", "remount it read-write; after an error of the disk, check it first"),
    errno.EIO: ("reports an I/O error", "check the disk and the kernel's log"),
    errno.ESTALE: ("is stale: it was unmounted, or its server forgot it", "mount it anew"),
    errno.EACCES: ("denies access", "run the driver as root, with the pool's directory owned by root"),
    errno.EPERM: ("denies access", "run the driver as root; look for immutable files (lsattr)"),
    errno.ENOENT: ("lacks a part of its layout", "restore its directories volumes, staging and trash"),
}


@contextlib.contextmanager
def translated(pool: str) -> Iterator[None]:
    """Turn every `OSError` of the work on a pool into one of our errors.

    Raises:
        errors.InsufficientCapacityError: the pool's filesystem is full.
        errors.BackendUnavailableError: anything else.
    """
    try:
        yield
    except OSError as error:
        raise translate(error, pool) from error


def translate(error: OSError, pool: str) -> errors.ProvisionerError:
    """Our error for one of the operating system's."""
    if error.errno in FULL:
        return errors.InsufficientCapacityError(
            f"pool {pool} is full: its filesystem has no room left", remedy="free space in it, or enlarge it"
        )
    if error.errno in TAMPERED:
        return errors.BackendUnavailableError(
            f"pool {pool} has a symlink, a file or a mount where it keeps a directory",
            remedy="see who changed it: its directories are the driver's alone",
        )
    what, remedy = _MEANING.get(error.errno or 0, (f"fails: {error.strerror}", "look at the disk"))
    return errors.BackendUnavailableError(f"pool {pool} {what}", remedy=remedy)
