"""What runs beside the controllers, and what becomes of them when it fails."""

import asyncio

import pytest

from provisioner.controllers import background


class FaultError(Exception):
    pass


async def _forever(ended: list[str], name: str) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        ended.append(name)


async def test_a_failure_in_the_background_ends_the_work_that_relies_on_it() -> None:
    ended: list[str] = []

    async def fail() -> None:
        raise FaultError

    async with background.Background() as beside:
        beside.run(fail())
        with pytest.raises(FaultError):
            await beside.during(_forever(ended, "work"))
    assert ended == ["work"]


async def test_background_work_that_is_done_ends_nothing() -> None:
    done = asyncio.Event()

    async def finish() -> None:
        done.set()

    async def work() -> str:
        await done.wait()
        return "result"

    async with background.Background() as beside:
        beside.run(finish())
        assert await beside.during(work()) == "result"


async def test_leaving_ends_the_latest_first() -> None:
    ended: list[str] = []
    async with background.Background() as beside:
        beside.run(_forever(ended, "first"))
        beside.run(_forever(ended, "second"))
        await asyncio.sleep(0)
    assert ended == ["second", "first"]


async def test_a_failure_of_the_work_itself_reaches_its_caller() -> None:
    async def fail() -> None:
        raise FaultError

    async with background.Background() as beside:
        beside.run(_forever([], "cache"))
        with pytest.raises(FaultError):
            await beside.during(fail())
