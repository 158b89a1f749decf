"""Holds a fake at one step until the test opens the gate."""

import asyncio
import threading

PATIENCE = 30.0


class Gate:
    """Hand `wait` to the fake, await `reached`, look, then `open`."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._open = threading.Event()

    def wait(self) -> None:
        """Block the thread that gets here until the gate is opened.

        Raises:
            TimeoutError: nobody opened it.
        """
        self._reached.set()
        if not self._open.wait(PATIENCE):
            raise TimeoutError

    async def reached(self) -> None:
        """Return as soon as a thread stands at the gate.

        Raises:
            TimeoutError: none came.
        """
        if not await asyncio.to_thread(self._reached.wait, PATIENCE):
            raise TimeoutError

    def open(self) -> None:
        """Let everybody through, now and later."""
        self._open.set()
