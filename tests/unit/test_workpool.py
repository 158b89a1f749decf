"""Blocking work behind an asynchronous face: what becomes of work that nobody waits for any more."""

import asyncio
from collections.abc import Callable

import pytest
import structlog

from provisioner import errors, workpool
from tests.fakes import gate


async def _leave(work: Callable[[], None]) -> list[dict[str, object]]:
    """Begin the work, leave it, let it end; returns what was logged."""
    held, pool = gate.Gate(), workpool.WorkPool(name="test", mutating=1)

    def slow() -> None:
        held.wait()
        work()

    with structlog.testing.capture_logs() as logged:
        caller = asyncio.create_task(pool.mutate("key", slow, doing="making a"))
        await held.reached()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        held.open()
        await pool.close()
    return [dict(line) for line in logged]


def _fail(error: Exception) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


async def test_the_success_of_abandoned_work_is_logged() -> None:
    (line,) = await _leave(lambda: None)
    assert (line["log_level"], line["work"]) == ("info", "making a")


async def test_the_refusal_of_abandoned_work_is_logged_with_its_reason() -> None:
    (line,) = await _leave(_fail(errors.InsufficientCapacityError("no room")))
    assert (line["log_level"], line["error"]) == ("warning", "no room")


async def test_the_breakdown_of_abandoned_work_is_logged_with_its_trace() -> None:
    fault = ZeroDivisionError("bug")
    (line,) = await _leave(_fail(fault))
    assert (line["log_level"], line["exc_info"]) == ("error", fault)


async def test_a_key_is_free_after_work_that_broke_down() -> None:
    pool = workpool.WorkPool(name="test", mutating=1)
    with pytest.raises(ZeroDivisionError):
        await pool.mutate("key", _fail(ZeroDivisionError()), doing="making a")
    await pool.mutate("key", lambda: None, doing="making a")
    await pool.close()


async def test_the_context_of_the_caller_is_that_of_the_work() -> None:
    pool = workpool.WorkPool(name="test", mutating=1)
    with structlog.contextvars.bound_contextvars(request="r-1"):
        assert await pool.read(structlog.contextvars.get_contextvars) == {"request": "r-1"}
    await pool.close()


async def test_a_closed_pool_takes_no_work_and_may_be_closed_again() -> None:
    pool = workpool.WorkPool(name="test", mutating=1)
    await pool.close()
    await pool.close()
    with pytest.raises(errors.BackendUnavailableError):
        await pool.read(lambda: None)
    with pytest.raises(errors.BackendUnavailableError):
        await pool.mutate("key", lambda: None, doing="making a")
