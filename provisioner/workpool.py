"""Blocking work behind an asynchronous face: bounded threads, and one piece of mutating work per key.

`volumes` feeds it with a backend's calls, `node.service` with mounts. A gRPC client whose deadline passes
cancels the coroutine that serves it, never work that has begun: a mutation runs to its end in its thread, its
key stays taken until then, and the outcome that nobody waits for any more is logged. Work that still queues
is dropped with its caller, so that the queue is never longer than the calls that are waited for.
"""

import asyncio
import contextlib
import contextvars
import functools
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import TypeVar

import structlog

from provisioner import errors, keylock, waiting

_T = TypeVar("_T")
_log = structlog.get_logger(__name__)


class WorkPool:
    """Two sets of threads, so that looking never waits behind changing. Belongs to one event loop."""

    def __init__(
        self, *, name: str, mutating: int, reading: int = 4, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._mutating = futures.ThreadPoolExecutor(mutating, thread_name_prefix=f"{name}-change")
        self._reading = futures.ThreadPoolExecutor(reading, thread_name_prefix=f"{name}-read")
        self._locks = keylock.KeyLock(clock=clock)
        self._running: set[asyncio.Future[object]] = set()
        self._closed = False

    async def read(self, function: Callable[[], _T]) -> _T:
        """Run `function`, which changes nothing, in a thread."""
        _, answer = self._submit(self._reading, contextvars.copy_context(), function)
        return await answer

    async def mutate(self, key: str, function: Callable[[], _T], *, doing: str, reading: Sequence[str] = ()) -> _T:
        """Run `function`, which may change something, in a thread, holding `key` until it has really ended.

        Args:
            key: names what is changed.
            function: the work.
            doing: what it does, for the one who comes second and for the log.
            reading: keys of what must not change meanwhile; others may read it at the same time.

        Raises:
            errors.OperationPendingError: a key is taken by a call that has not ended.
        """
        self._refuse_when_closed()
        noted = waiting.Work()
        with contextlib.ExitStack() as taking:
            for name, shared in ((key, False), *((other, True) for other in reading)):
                hold = self._locks.acquire(name, doing=doing, shared=shared, at=noted.__str__)
                taking.callback(self._locks.release, hold)
            work, answer = self._submit(self._mutating, noted.context(), function)
            holds = taking.pop_all()
        answer.add_done_callback(lambda _: holds.close())
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            if not work.cancel():
                answer.add_done_callback(functools.partial(_log_unawaited, doing))
            raise

    async def close(self) -> None:
        """Take no more work, wait for what has begun, and end the threads. May be called again."""
        self._closed = True
        while self._running:
            await asyncio.wait(self._running)
        self._mutating.shutdown()
        self._reading.shutdown()

    def abandon(self) -> None:
        """Take no more work and wait for nothing; each thread ends with what it has begun."""
        self._closed = True
        self._mutating.shutdown(wait=False, cancel_futures=True)
        self._reading.shutdown(wait=False, cancel_futures=True)

    def _submit(
        self, executor: futures.Executor, context: contextvars.Context, function: Callable[[], _T]
    ) -> tuple[futures.Future[_T], asyncio.Future[_T]]:
        self._refuse_when_closed()
        work = executor.submit(context.run, function)
        answer = asyncio.wrap_future(work)
        # The set is of futures of anything; only their end matters here.
        self._running.add(answer)  # type: ignore[arg-type]
        answer.add_done_callback(self._running.discard)
        return work, answer

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise errors.BackendUnavailableError("the program is shutting down", remedy="call again later")


def _log_unawaited(doing: str, answer: asyncio.Future[_T]) -> None:
    if answer.cancelled():
        return
    failure = answer.exception()
    if failure is None:
        _log.info("work ended after its caller had left", work=doing)
    elif isinstance(failure, errors.ProvisionerError):
        _log.warning("work failed after its caller had left", work=doing, error=str(failure))
    else:
        _log.error("work failed after its caller had left", work=doing, exc_info=failure)
