"""Turns what the binding raises into the errors of the seam, by errno and nothing else."""

import contextlib
import errno
from collections.abc import Iterator, Mapping

from provisioner import errors as base
from provisioner import waiting
from provisioner.backends.rbd.client import binding, errors

Kinds = Mapping[int, type[base.ProvisionerError]]

_INVALID = "Ceph accepts no image like this: its size, features or striping do not go together"
# The class and what it means; where the meaning is empty, the class says it.
_KINDS: Mapping[int, tuple[type[base.ProvisionerError], str]] = {
    errno.ENOENT: (errors.ImageNotFoundError, "it does not exist"),
    errno.EEXIST: (errors.ImageExistsError, "it exists already"),
    errno.EBUSY: (errors.ImageBusyError, "it is open elsewhere"),
    errno.ENOTEMPTY: (errors.ImageHasSnapshotsError, "it has snapshots, or clones of these"),
    errno.EROFS: (errors.ReadOnlyError, "it cannot be written to: another client holds its lock"),
    errno.EDQUOT: (errors.QuotaExceededError, "the pool's quota is used up"),
    errno.ENOSPC: (errors.QuotaExceededError, "the cluster is full"),
    errno.EINVAL: (errors.InvalidImageError, _INVALID),
    errno.EDOM: (errors.InvalidImageError, _INVALID),
    errno.ERANGE: (errors.InvalidImageError, _INVALID),
    errno.ENOSYS: (errors.InvalidImageError, "this version of librbd has no such feature"),
    errno.ETIMEDOUT: (errors.TimedOutError, "Ceph did not answer in time; how it ended is unknown"),
    errno.ESHUTDOWN: (errors.BlocklistedError, "this client is on Ceph's blocklist"),
    errno.ENOTCONN: (errors.ClusterUnreachableError, "the connection is closed"),
    errno.EPERM: (errors.NotPermittedError, "Ceph does not permit it to this user"),
    errno.EACCES: (errors.NotPermittedError, "Ceph does not permit it to this user"),
}
_REMEDIES: Mapping[type[base.ProvisionerError], str] = {
    errors.QuotaExceededError: "free some room in the pool, or raise its quota",
    errors.NotPermittedError: "give the user the capabilities mon 'profile rbd' and osd 'profile rbd'",
    errors.TimedOutError: "look at the cluster's health (ceph -s)",
}


@contextlib.contextmanager
def translated(what: str, kinds: Kinds | None = None) -> Iterator[None]:
    """Raise the errors of the seam from what is called in this context.

    Args:
        what: what is being done, as in "removing image x"; the message begins with it.
        kinds: the classes that some errnos stand for in this very call.
    """
    loaded = binding.load()
    try:
        with waiting.on(what):
            yield
    except (loaded.rados.Error, loaded.rbd.Error) as error:
        raise of(what, getattr(error, "errno", None), kinds) from error


def of(what: str, number: int | None, kinds: Kinds | None = None) -> base.ProvisionerError:
    """The error for an errno; the binding's own complaints have none."""
    number = abs(number or 0)
    special = (kinds or {}).get(number)
    kind, meaning = _KINDS.get(number, (errors.ClusterError, f"Ceph answers with {_name(number)}"))
    if special is not None:
        kind = special
    return kind(f"{what} failed: {meaning}", remedy=_REMEDIES.get(kind, ""))


def _name(number: int) -> str:
    return errno.errorcode.get(number, "an error without a number" if number == 0 else f"errno {number}")
