"""At most one piece of work that changes a thing; who comes second is told what is running instead of waiting for it.

CSI lets a caller repeat a call whose answer it did not wait for, and asks for ABORTED while the first is
still being worked on (specification, "Concurrency"). Waiting would pile up the repetitions of a slow call.

A key can be shared: several pieces of work may read one thing, say, restore from one snapshot, while nobody changes it.
"""

import dataclasses
import time
from collections.abc import Callable

from provisioner import errors


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Hold:
    """A key that is taken; given to `KeyLock.release`, once.

    Attributes:
        doing: what it was taken for.
        at: tells at which step that is; empty where there is nothing to tell.
    """

    key: str
    doing: str
    since: float
    shared: bool
    at: Callable[[], str]


class KeyLock:
    """Try-locks by key, for one event loop or one thread: nothing here blocks, and nothing is thread-safe."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._holds: dict[str, list[Hold]] = {}

    def acquire(self, key: str, *, doing: str, shared: bool = False, at: Callable[[], str] = str) -> Hold:
        """Take the key for what `doing` describes ("creating volume pvc-1"), alone or with others who share it.

        Raises:
            errors.OperationPendingError: the key is taken; says by what, for how many seconds, and `at` which step.
        """
        holds = self._holds.setdefault(key, [])
        for other in holds:
            if not (shared and other.shared):
                step = other.at()
                raise errors.OperationPendingError(
                    f"{other.doing} is still running, since {self._clock() - other.since:.1f} s ago"
                    + (f": {step}" if step else ""),
                    remedy="call again later",
                )
        hold = Hold(key, doing, self._clock(), shared, at)
        holds.append(hold)
        return hold

    def release(self, hold: Hold) -> None:
        """Give the key back."""
        holds = self._holds[hold.key]
        holds.remove(hold)
        if not holds:
            del self._holds[hold.key]
