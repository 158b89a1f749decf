"""What this process waits for outside of itself, by name and since when, so that a hang can be read.

a backend      says `with waiting.on("creating image x"):` round each call that may take long
workpool       gives each piece of work a `Work`, and tells who comes second at which step it is
metrics        shows how many such calls are under way, by age
"""

import contextlib
import contextvars
import dataclasses
import threading
import time
from collections.abc import Iterator


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Step:
    name: str
    since: float

    @property
    def age(self) -> float:
        return time.monotonic() - self.since


class Work:
    """One piece of work, and the steps that it is at. Written by the threads that do it, read by any."""

    def __init__(self) -> None:
        self._steps: list[_Step] = []

    def __str__(self) -> str:
        """The innermost step, and how long it has taken so far; empty between steps."""
        with _lock:
            step = self._steps[-1] if self._steps else None
        return "" if step is None else f"{step.name} has taken {step.age:.1f} s so far"

    def context(self) -> contextvars.Context:
        """A copy of the present context, in which `on` notes its steps with this work."""
        copied = contextvars.copy_context()
        copied.run(_steps.set, self._steps)
        return copied


# Those of the work that a thread does, and those of the whole process.
_steps: contextvars.ContextVar[list[_Step] | None] = contextvars.ContextVar("steps", default=None)
_all_steps: list[_Step] = []
_lock = threading.Lock()


@contextlib.contextmanager
def on(name: str) -> Iterator[None]:
    """Note that something is waited for. The name is for people, and never has a secret in it."""
    step, mine = _Step(name, time.monotonic()), _steps.get()
    lists = [_all_steps] if mine is None else [_all_steps, mine]
    with _lock:
        for steps in lists:
            steps.append(step)
    try:
        yield
    finally:
        with _lock:
            for steps in lists:
                steps.remove(step)


def count(*, older_than: float) -> int:
    """How many waits under way are older than so many seconds."""
    with _lock:
        return sum(step.age >= older_than for step in _all_steps)
