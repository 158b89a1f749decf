"""At most one piece of work per key; who comes second is told what is running instead of waiting for it.

CSI lets a caller repeat a call whose answer it did not wait for, and asks for ABORTED while the first is
still being worked on (specification, "Concurrency"). Waiting would pile up the repetitions of a slow call.
"""

import dataclasses
import time
from collections.abc import Callable

from provisioner import errors


@dataclasses.dataclass(frozen=True, slots=True)
class _Holder:
    doing: str
    since: float


class KeyLock:
    """Try-locks by key, for one event loop or one thread: nothing here blocks, and nothing is thread-safe."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._holders: dict[str, _Holder] = {}

    def acquire(self, key: str, *, doing: str) -> None:
        """Take the key for what `doing` describes ("creating volume pvc-1").

        Raises:
            errors.OperationPendingError: the key is taken; says by what, and for how many seconds.
        """
        holder = self._holders.get(key)
        if holder is not None:
            seconds = self._clock() - holder.since
            raise errors.OperationPendingError(
                f"{holder.doing} is still running, since {seconds:.1f} s ago", remedy="call again later"
            )
        self._holders[key] = _Holder(doing, self._clock())

    def release(self, key: str) -> None:
        """Give the key back; it must have been acquired."""
        del self._holders[key]
