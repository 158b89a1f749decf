"""One connection per cluster and user, shared by all calls, and made anew when its key or its monitors change.

A connection costs a dozen threads, so it is kept. One that was replaced is only forgotten here: it ends when the last
call that uses it lets go of it, and never under a call.
"""

import dataclasses
import hashlib
import threading
from collections.abc import Callable

from provisioner import errors
from provisioner.backends.rbd.client import api

Connect = Callable[[api.Credentials], api.Cluster]


@dataclasses.dataclass(slots=True)
class _Slot:
    """The connection of one user of one cluster.

    Attributes:
        making: held while connecting, which takes seconds where nobody answers: others wait for its outcome.
        failure: of the last attempt; None where that was good.
        failures: how many attempts have failed.
    """

    making: threading.Lock = dataclasses.field(default_factory=threading.Lock)
    stamp: bytes = b""
    cluster: api.Cluster | None = None
    failure: errors.ProvisionerError | None = None
    failures: int = 0


class Connections:
    """The connections of this process. Thread-safe.

    Args:
        connect: makes a connection; raises an error of `client.errors` where that fails.
    """

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._slots: dict[tuple[str, str], _Slot] = {}

    def get(self, credentials: api.Credentials) -> api.Cluster:
        """The connection for these credentials. Keep it for the time of a call, and no longer.

        Raises:
            errors.BindingMissingError: this machine lacks Ceph's libraries.
            errors.ClusterUnreachableError: no monitor answers.
            errors.AuthenticationError: the user or the key is refused.
        """
        stamp = _stamp(credentials)
        with self._lock:
            slot = self._slots.setdefault((credentials.cluster, credentials.user), _Slot())
        seen = slot.failures
        with slot.making:
            if slot.failure is not None and slot.failures != seen and slot.stamp == stamp:
                # It failed while this call waited for it: were each to try for itself, the last would wait for all.
                raise slot.failure
            if slot.cluster is None or slot.stamp != stamp or not slot.cluster.is_usable():
                slot.cluster, slot.failure, slot.stamp = None, None, stamp
                try:
                    slot.cluster = self._connect(credentials)
                except errors.ProvisionerError as error:
                    slot.failure = error
                    slot.failures += 1
                    raise
            return slot.cluster


def _stamp(credentials: api.Credentials) -> bytes:
    """What changes when the key or the monitors do; the key itself is not kept."""
    return hashlib.sha256("\0".join([*credentials.monitors, "", credentials.key]).encode()).digest()
