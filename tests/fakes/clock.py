"""Time that only moves when a test moves it (see `provisioner.kube.clock`)."""

import asyncio
import dataclasses
import heapq
import itertools
from collections.abc import Callable


@dataclasses.dataclass(order=True)
class _Timer:
    due: float
    number: int
    callback: Callable[[], None] = dataclasses.field(compare=False)
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeClock:
    """Begins at 1000 seconds; `advance` runs what is due on the way."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._timers: list[_Timer] = []
        self._numbers = itertools.count()
        self.slept: list[float] = []

    def time(self) -> float:
        return self._now

    def call_later(self, seconds: float, callback: Callable[[], None]) -> _Timer:
        timer = _Timer(self._now + seconds, next(self._numbers), callback)
        heapq.heappush(self._timers, timer)
        return timer

    async def sleep(self, seconds: float) -> None:
        """Wait until a test has advanced so far; `slept` keeps what was asked for."""
        self.slept.append(seconds)
        over = asyncio.Event()
        self.call_later(seconds, over.set)
        await over.wait()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        end = self._now + seconds
        while self._timers and self._timers[0].due <= end:
            timer = heapq.heappop(self._timers)
            self._now = timer.due
            if not timer.cancelled:
                timer.callback()
        self._now = end

    @property
    def pending(self) -> list[float]:
        """In how many seconds each timer is due."""
        return sorted(timer.due - self._now for timer in self._timers if not timer.cancelled)
