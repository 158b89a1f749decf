"""Parts of the process: started in order, kept running, stopped in the opposite order."""

import asyncio
import contextlib
from collections.abc import Callable

import pytest

from provisioner import errors, supervise


class Part:
    """Writes its name into a diary when it starts and stops."""

    def __init__(self, name: str, diary: list[str], *, fails: bool = False) -> None:
        self.name, self.diary, self.fails = name, diary, fails

    async def start(self) -> None:
        if self.fails:
            raise errors.BackendUnavailableError("the socket is taken")
        self.diary.append(f"start {self.name}")

    async def stop(self) -> None:
        self.diary.append(f"stop {self.name}")


async def test_parts_stop_in_the_opposite_order_of_their_start() -> None:
    diary: list[str] = []
    stop = asyncio.Event()
    stop.set()
    await supervise.run([Part("a", diary), Part("b", diary)], stop, grace=5)
    assert diary == ["start a", "start b", "stop b", "stop a"]


async def test_a_part_that_cannot_start_ends_those_before_it() -> None:
    diary: list[str] = []
    with pytest.raises(errors.BackendUnavailableError):
        await supervise.run([Part("a", diary), Part("b", diary, fails=True)], asyncio.Event(), grace=5)
    assert diary == ["start a", "stop b", "stop a"]


async def test_a_part_that_does_not_stop_is_left_behind_after_the_grace_time() -> None:
    class Stubborn(Part):
        async def stop(self) -> None:
            await asyncio.Event().wait()

    stop = asyncio.Event()
    stop.set()
    async with asyncio.timeout(5):
        await supervise.run([Stubborn("a", [])], stop, grace=0.01)


async def test_a_stop_cuts_off_a_part_that_is_still_starting() -> None:
    class Slow(Part):
        async def start(self) -> None:
            await super().start()
            await asyncio.Event().wait()

    diary: list[str] = []
    stop = asyncio.Event()
    stop.set()
    async with asyncio.timeout(5):
        await supervise.run([Slow("a", diary), Part("b", diary)], stop, grace=5)
    assert diary == ["start a", "stop a"]


async def test_a_kept_part_that_does_not_clean_up_in_time_leaves_no_more_time_to_others() -> None:
    at_work, diary = asyncio.Event(), list[str]()

    async def run(came_up: Callable[[], None]) -> None:
        came_up()
        try:
            at_work.set()
            await asyncio.Event().wait()
        finally:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    stop = asyncio.Event()
    async with asyncio.timeout(5):
        running = asyncio.create_task(
            supervise.run([Part("a", diary), supervise.Kept("watcher", run)], stop, grace=0.01)
        )
        await at_work.wait()
        stop.set()
        await running
    assert diary == ["start a"]


async def test_a_kept_part_shows_its_fault_until_it_comes_up_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "FIRST_WAIT", 0.0)
    attempts = 0
    up = asyncio.Event()
    shown: list[str] = []

    async def run(came_up: Callable[[], None]) -> None:
        nonlocal attempts
        attempts += 1
        try:
            await kept.ready()
        except errors.ProvisionerError as error:
            shown.append(str(error))
        if attempts == 1:
            raise errors.BackendUnavailableError("the directory is missing", remedy="mount it")
        came_up()
        up.set()
        await asyncio.Event().wait()

    kept = supervise.Kept("registration", run)
    await kept.start()
    async with asyncio.timeout(5):
        await up.wait()
    await kept.ready()
    await kept.stop()

    assert shown == ["registration is starting", "the directory is missing; mount it"]


async def test_a_kept_part_survives_an_unexpected_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "FIRST_WAIT", 0.0)
    attempts = asyncio.Queue[int]()
    count = 0

    async def run(_came_up: Callable[[], None]) -> None:
        nonlocal count
        count += 1
        await attempts.put(count)
        raise ZeroDivisionError

    kept = supervise.Kept("fragile", run)
    await kept.start()
    async with asyncio.timeout(5):
        assert [await attempts.get(), await attempts.get()] == [1, 2]
    with pytest.raises(errors.BackendUnavailableError, match="fragile failed unexpectedly: ZeroDivisionError"):
        await kept.ready()
    await kept.stop()
