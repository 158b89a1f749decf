"""Work that goes on beside the controllers: caches, the event recorder, the binder.

None of it is expected to end. Where one fails after all, whoever waits through `Background.during` is ended with its
exception, so that nobody goes on deciding on a picture that stands still.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, Self, TypeVar

Result = TypeVar("Result")


class Background:
    """Runs coroutines until it is left, then cancels the latest first and waits for each.

    Usage: `async with Background() as beside: beside.run(…); await beside.during(…)`.
    """

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        for task in reversed(self._tasks):
            task.cancel()
            await asyncio.wait([task])

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Have `work` run from now on."""
        self._tasks.append(asyncio.create_task(work))

    async def during(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Wait for `work`, unless something in the background fails first; then `work` is cancelled.

        What began in the background after this call is not looked at.

        Raises:
            Exception: whatever the background failed with, or `work` did.
        """
        main = asyncio.create_task(work)
        try:
            waiting: set[asyncio.Task[Any]] = {main, *self._tasks}
            while not main.done():
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done - {main}:
                    task.result()
            return main.result()
        finally:
            main.cancel()
            await asyncio.wait([main])
