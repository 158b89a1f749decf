"""Connects to a cluster: librados' handle, with every wait bounded, and readable reasons where there is none.

No command for the manager is ever sent over it: with a time-out for them, librados 16 crashes when the answer is late
(https://tracker.ceph.com/issues/65985).
"""

import base64
import binascii
import contextlib
import dataclasses
import errno
from collections.abc import Mapping
from typing import Any

from provisioner.backends.rbd.client import api, binding, errors, translate

# A key: type, time of creation and length, then at least this many bytes of secret.
_KEY_HEAD, _KEY_SECRET = 12, 16

_RIGHT_KEY = "write the user's name and the key that `ceph auth get-key` prints into the driver's clusters file"

# What librados would keep in memory of its doings, in case of a crash, costs a tenth of every call.
_SILENT = ("auth", "finisher", "monc", "ms", "objecter", "rados", "rbd")

_OPTIONS: Mapping[str, str] = {
    "rbd_default_clone_format": "2",
    # There is nothing to cache for whoever only makes images, and opening one is quicker without.
    "rbd_cache": "false",
    # `rbd pool init` has seen to that, once; this would ask again for every image.
    "rbd_validate_pool": "false",
    # The machine's own keyring would be preferred to the key.
    "keyring": "",
    "log_file": "",
    "log_to_stderr": "false",
    "err_to_stderr": "false",
    **{f"debug_{part}": "0/0" for part in _SILENT},
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """For how many seconds Ceph is waited for.

    Attributes:
        connect: until a monitor has answered.
        monitor: for a monitor's answer to one question.
        osd: for an OSD's. One call of ours may ask several times, but not after one of them was not answered.
    """

    connect: int = 10
    monitor: int = 10
    osd: int = 20

    def options(self) -> dict[str, str]:
        """As librados has them."""
        return {
            "client_mount_timeout": str(self.connect),
            "rados_mon_op_timeout": str(self.monitor),
            "rados_osd_op_timeout": str(self.osd),
        }


DEFAULT_LIMITS = Limits()


def connect(given: api.Credentials, limits: Limits) -> Any:
    """A connected handle; whoever has it calls `shutdown` when nothing uses it any more.

    Raises:
        errors.BindingMissingError: this machine lacks Ceph's libraries.
        errors.AuthenticationError: the user or the key is refused.
        errors.ClusterUnreachableError: no monitor answers.
    """
    rados = binding.load().rados
    _check_key(given)
    place = {"mon_host": ",".join(given.monitors), "key": given.key}
    handle = rados.Rados(rados_id=given.user, conf={**_OPTIONS, **limits.options(), **place})
    try:
        handle.connect()
    except rados.Error as error:
        with contextlib.suppress(rados.Error):
            handle.shutdown()
        raise _refused(given, abs(getattr(error, "errno", None) or 0)) from error
    return handle


def _check_key(given: api.Credentials) -> None:
    """Find a key that is none before Ceph does, which cannot tell it from a bad address."""
    try:
        size = len(base64.b64decode(given.key, validate=True))
    except (binascii.Error, ValueError):
        size = 0
    if size < _KEY_HEAD + _KEY_SECRET:
        raise errors.AuthenticationError(
            f"the key for cluster {given.cluster} is none of Ceph's keys", remedy=_RIGHT_KEY
        )


def _refused(given: api.Credentials, number: int) -> Exception:
    """Why there is no connection. Events carry it, so it names neither monitors nor user."""
    if number in {errno.EACCES, errno.EPERM, errno.ENOENT}:
        return errors.AuthenticationError(
            f"cluster {given.cluster} refuses the user that it is given: no such user, or another key",
            remedy=_RIGHT_KEY,
        )
    if number == errno.EINVAL:
        return errors.ClusterUnreachableError(
            f"the monitors of cluster {given.cluster} cannot be found by the addresses that are given",
            remedy="correct the monitors' addresses in the driver's clusters file",
        )
    if number == errno.ETIMEDOUT:
        return errors.ClusterUnreachableError(
            f"no monitor of cluster {given.cluster} answers",
            remedy="look after the monitors and the network, or correct their addresses in the driver's clusters file",
        )
    return translate.of(f"connecting to cluster {given.cluster}", number)
