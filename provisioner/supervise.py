"""Long-running parts of the process: started in order, kept running, stopped in the opposite order.

A part that cannot run now (a socket directory that is not mounted yet, a kubeconfig that is wrong) says so in the log
and in `/readyz`, and is tried again until it can: the process recovers by itself when what was wrong is mended. Only a
part that fails in `start()` ends the process: there, nothing but another configuration can help.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import structlog

from provisioner import errors

log = structlog.get_logger(__name__)

FIRST_WAIT, LONGEST_WAIT = 0.5, 10.0  # seconds between two attempts


class Part(Protocol):
    """Something that runs for as long as the process does."""

    async def start(self) -> None:
        """Begin; return when the part is at work.

        Raises:
            errors.ProvisionerError: it cannot, and will not without another configuration.
        """

    async def stop(self) -> None:
        """Finish what is in hand and end. Safe to call for a part that never started."""


class Kept:
    """A part that keeps `run` going: when it fails, the fault is shown and it is run again after a while.

    Args:
        name: of the part, in the log and in `/readyz`.
        run: runs until it is cancelled, and cleans up after itself then. It calls the function it is given
            when it has come up, which clears the fault that was shown.
        patience: seconds that `start` waits for it to come up.
    """

    def __init__(
        self, name: str, run: Callable[[Callable[[], None]], Awaitable[None]], *, patience: float = 0.0
    ) -> None:
        self._name = name
        self._run = run
        self._patience = patience
        self._first_try = asyncio.Event()
        self._fault: errors.ProvisionerError | None = errors.BackendUnavailableError(f"{name} is starting")
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to keep it running; wait a little for the outcome of the first try."""
        self._task = asyncio.create_task(self._keep(), name=self._name)
        if self._patience:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._first_try.wait(), self._patience)

    async def stop(self) -> None:
        """Cancel it and wait until it has cleaned up."""
        if self._task is not None:
            self._task.cancel()
            # Awaiting the task itself would take our own cancellation, when the grace time is over, for the task's.
            await asyncio.wait([self._task])

    async def ready(self) -> None:
        """Raise the fault that keeps it from running, if there is one: a check for `/readyz`."""
        if self._fault is not None:
            raise self._fault

    def _up(self) -> None:
        self._fault = None
        self._first_try.set()

    async def _keep(self) -> None:
        wait = FIRST_WAIT
        while True:
            try:
                await self._run(self._up)
                fault: errors.ProvisionerError = errors.BackendUnavailableError(f"{self._name} ended")
            except errors.ProvisionerError as error:
                fault = error
            except Exception as error:
                log.exception("part_failed", part=self._name)
                fault = errors.BackendUnavailableError(f"{self._name} failed unexpectedly: {type(error).__name__}")
            if self._fault is None:
                wait = FIRST_WAIT
            if self._fault is None or str(self._fault) != str(fault):
                log.error("part_not_running", part=self._name, error=str(fault), retry_in=wait)
            self._fault = fault
            self._first_try.set()
            await asyncio.sleep(wait)
            wait = min(wait * 2, LONGEST_WAIT)


async def run(parts: Sequence[Part], stop: asyncio.Event, *, grace: float) -> None:
    """Start the parts in order, wait for `stop`, and stop them in the opposite order.

    A `stop` while parts are still starting cuts the start off, so that the end never waits for it.

    Args:
        grace: seconds that stopping may take in all; what has not stopped by then is left to the end of the process.

    Raises:
        errors.ProvisionerError: a part could not start; those before it were stopped.
    """
    started: list[Part] = []
    stopping = asyncio.create_task(stop.wait())
    starting = asyncio.create_task(_start(parts, started))
    try:
        await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            await starting
        await stopping
    finally:
        await _cancel(starting, stopping)
        try:
            async with asyncio.timeout(grace):
                for part in reversed(started):
                    await part.stop()
        except TimeoutError:
            log.warning("stopped_hard", grace_seconds=grace)


async def _start(parts: Sequence[Part], started: list[Part]) -> None:
    for part in parts:
        started.append(part)
        await part.start()


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
