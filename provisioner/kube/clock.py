"""Time as the queue and the caches see it, so that tests can have their own."""

import asyncio
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A call that is to come."""

    def cancel(self) -> None:
        """Let it not come."""


class Clock(Protocol):
    """Seconds since some moment, and two ways to wait."""

    def time(self) -> float:
        """Now."""

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call back once, so many seconds from now."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


class LoopClock:
    """The event loop's own time."""

    def time(self) -> float:
        """`loop.time()`."""
        return asyncio.get_running_loop().time()

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """`loop.call_later()`."""
        return asyncio.get_running_loop().call_later(seconds, callback)

    async def sleep(self, seconds: float) -> None:
        """`asyncio.sleep()`."""
        await asyncio.sleep(seconds)
