"""The queue: each key to one worker at a time, none lost, none in a hurry after a failure."""

import asyncio
import collections
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import structlog

from provisioner import metrics
from provisioner.kube import errors, queue
from tests.fakes import clock

Lane = queue.Lane


class Handler:
    """Does what the test says with each key, and keeps count."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.running: collections.Counter[str] = collections.Counter()
        self.most_at_once = 0
        self.act: Callable[[str], Awaitable[queue.Outcome]] = self._done

    async def __call__(self, key: str) -> queue.Outcome:
        self.seen.append(key)
        self.running[key] += 1
        assert self.running[key] == 1
        self.most_at_once = max(self.most_at_once, self.running.total())
        try:
            return await self.act(key)
        finally:
            self.running[key] -= 1

    async def _done(self, key: str) -> queue.Outcome:
        await asyncio.sleep(0)
        return queue.done()


@pytest.fixture
def handler() -> Handler:
    return Handler()


@pytest.fixture
async def subject(
    handler: Handler, time: clock.FakeClock, registry: metrics.Metrics
) -> AsyncIterator[queue.KeyedQueue]:
    made = queue.KeyedQueue(handler, name="test", workers=2, metrics=registry, time=time, chance=lambda: 1.0)
    yield made
    await made.close()


def _outcomes(*outcomes: queue.Outcome | Exception) -> Callable[[str], Awaitable[queue.Outcome]]:
    """One after the other; then done."""
    left = list(outcomes)

    async def act(key: str) -> queue.Outcome:
        outcome = left.pop(0) if left else queue.done()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return act


async def test_keys_are_handled_in_the_order_they_came(subject: queue.KeyedQueue, handler: Handler) -> None:
    for key in "cab":
        subject.add(key)
    subject.start()
    await subject.join()
    assert handler.seen == ["c", "a", "b"]


async def test_nothing_is_handed_out_before_the_start(subject: queue.KeyedQueue, handler: Handler) -> None:
    subject.add("a")
    await asyncio.sleep(0)
    assert (handler.seen, len(subject)) == ([], 1)


async def test_a_key_added_twice_is_handled_once(subject: queue.KeyedQueue, handler: Handler) -> None:
    subject.add("a")
    subject.add("a")
    subject.start()
    await subject.join()
    assert handler.seen == ["a"]


async def test_a_key_added_while_it_is_handled_is_handled_again_afterwards(
    subject: queue.KeyedQueue, handler: Handler
) -> None:
    go_on = asyncio.Event()

    async def act(key: str) -> queue.Outcome:
        await go_on.wait()
        return queue.done()

    handler.act = act
    subject.start()
    subject.add("a")
    await asyncio.sleep(0)
    subject.add("a")
    subject.add("a")
    go_on.set()
    await subject.join()
    assert (handler.seen, handler.most_at_once) == (["a", "a"], 1)


async def test_no_more_handlers_run_at_once_than_there_are_workers(subject: queue.KeyedQueue, handler: Handler) -> None:
    for number in range(10):
        subject.add(str(number))
    subject.start()
    await subject.join()
    assert (len(handler.seen), handler.most_at_once) == (10, 2)


async def test_who_is_waited_for_goes_first(subject: queue.KeyedQueue, handler: Handler) -> None:
    subject.add("bulk")
    subject.add("urgent", Lane.WAITED_FOR)
    subject.start()
    await subject.join()
    assert handler.seen == ["urgent", "bulk"]


async def test_a_key_that_is_waited_for_after_all_moves_up(subject: queue.KeyedQueue, handler: Handler) -> None:
    for key in ("a", "b", "c"):
        subject.add(key)
    subject.add("c", Lane.WAITED_FOR)
    subject.add("c")
    subject.start()
    await subject.join()
    assert handler.seen == ["c", "a", "b"]


async def test_the_bulk_is_not_starved_by_those_who_are_waited_for(subject: queue.KeyedQueue, handler: Handler) -> None:
    for number in range(20):
        subject.add(f"urgent-{number}", Lane.WAITED_FOR)
    subject.add("bulk")
    subject.start()
    await subject.join()
    assert handler.seen.index("bulk") == 8


async def test_failures_are_retried_after_pauses_that_double(
    subject: queue.KeyedQueue, handler: Handler, time: clock.FakeClock
) -> None:
    handler.act = _outcomes(*[queue.retry()] * 12)
    subject.start()
    subject.add("a")
    pauses = []
    for _ in range(12):
        await subject.join()
        pauses += time.pending
        time.advance(time.pending[0])
    await subject.join()
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    assert (len(handler.seen), time.pending, subject.failures("a")) == (13, [], 0)


async def test_pauses_are_jittered_over_their_upper_half(handler: Handler, time: clock.FakeClock) -> None:
    subject = queue.KeyedQueue(handler, name="test", workers=1, first=10, limit=100, time=time, chance=lambda: 0.0)
    handler.act = _outcomes(queue.retry())
    subject.start()
    subject.add("a")
    await subject.join()
    assert time.pending == [5]


async def test_each_key_has_a_back_off_of_its_own(
    subject: queue.KeyedQueue, handler: Handler, time: clock.FakeClock
) -> None:
    async def act(key: str) -> queue.Outcome:
        return queue.retry() if key == "bad" else queue.done()

    handler.act = act
    subject.start()
    subject.add("bad")
    await subject.join()
    subject.add("good")
    await subject.join()
    assert (handler.seen, subject.failures("bad"), subject.failures("good")) == (["bad", "good"], 1, 0)


@pytest.mark.parametrize("raised", [ValueError("a bug"), errors.TransportError("no answer")])
async def test_a_handler_that_raises_loses_no_key(
    subject: queue.KeyedQueue, handler: Handler, time: clock.FakeClock, registry: metrics.Metrics, raised: Exception
) -> None:
    handler.act = _outcomes(raised)
    subject.start()
    with structlog.testing.capture_logs() as logs:
        subject.add("a")
        await subject.join()
    time.advance(1)
    await subject.join()
    retries = registry.registry.get_sample_value("workqueue_retries_total", {"name": "test"})
    assert (handler.seen, retries) == (["a", "a"], 1)
    assert [(log["event"], log["key"]) for log in logs] == [("handler failed", "a")]


async def test_looking_again_later_is_no_failure(
    subject: queue.KeyedQueue, handler: Handler, time: clock.FakeClock, registry: metrics.Metrics
) -> None:
    handler.act = _outcomes(queue.retry(), queue.retry_after(60))
    subject.start()
    subject.add("a")
    await subject.join()
    time.advance(1)
    await subject.join()
    assert (time.pending, subject.failures("a")) == ([60], 0)
    time.advance(60)
    await subject.join()
    assert len(handler.seen) == 3


async def test_of_two_later_wishes_the_sooner_counts(
    subject: queue.KeyedQueue, handler: Handler, time: clock.FakeClock
) -> None:
    subject.start()
    subject.add_after("a", 10)
    subject.add_after("a", 5)
    subject.add_after("a", 20)
    assert time.pending == [5]
    time.advance(100)
    await subject.join()
    assert handler.seen == ["a"]


async def test_news_cut_a_back_off_short_and_make_it_void(
    subject: queue.KeyedQueue, handler: Handler, time: clock.FakeClock
) -> None:
    handler.act = _outcomes(queue.retry())
    subject.start()
    subject.add("a")
    await subject.join()
    subject.add("a")
    await subject.join()
    assert (handler.seen, time.pending) == (["a", "a"], [])


async def test_an_object_that_is_gone_can_be_forgotten(
    subject: queue.KeyedQueue, handler: Handler, time: clock.FakeClock
) -> None:
    handler.act = _outcomes(queue.retry())
    subject.start()
    subject.add("a")
    await subject.join()
    subject.forget("a")
    assert (time.pending, subject.failures("a")) == ([], 0)


async def test_a_close_waits_for_what_runs_and_begins_nothing_new(handler: Handler, time: clock.FakeClock) -> None:
    subject = queue.KeyedQueue(handler, name="test", workers=1, time=time)
    go_on, finished = asyncio.Event(), list[str]()

    async def act(key: str) -> queue.Outcome:
        await go_on.wait()
        finished.append(key)
        return queue.retry()

    handler.act = act
    subject.start()
    subject.add("running")
    subject.add("waiting")
    await asyncio.sleep(0)
    closing = asyncio.create_task(subject.close(grace=5))
    await asyncio.sleep(0)
    go_on.set()
    await closing
    assert (handler.seen, finished, time.pending) == (["running"], ["running"], [])


async def test_a_close_cancels_what_is_not_done_in_time_and_says_so(handler: Handler) -> None:
    subject = queue.KeyedQueue(handler, name="test", workers=1)

    async def act(key: str) -> queue.Outcome:
        await asyncio.Event().wait()
        return queue.done()

    handler.act = act
    subject.start()
    subject.add("stuck")
    await asyncio.sleep(0)
    with structlog.testing.capture_logs() as logs:
        await subject.close(grace=0.01)
    assert [(log["event"], log["keys"]) for log in logs] == [("handlers cancelled at shutdown", ["stuck"])]
    assert handler.running.total() == 0


async def test_depth_and_age_are_measured(
    subject: queue.KeyedQueue, time: clock.FakeClock, registry: metrics.Metrics
) -> None:
    subject.add("a")
    depth = registry.registry.get_sample_value("workqueue_depth", {"name": "test"})
    time.advance(3)
    subject.start()
    await subject.join()
    age = registry.registry.get_sample_value("workqueue_queue_duration_seconds_sum", {"name": "test"})
    emptied = registry.registry.get_sample_value("workqueue_depth", {"name": "test"})
    assert (depth, age, emptied) == (1, 3, 0)


async def test_ten_thousand_keys_take_no_long_time(handler: Handler) -> None:
    subject = queue.KeyedQueue(handler, name="test", workers=10)
    for number in range(10_000):
        subject.add(str(number))
    subject.start()
    async with asyncio.timeout(5):
        await subject.join()
    assert len(set(handler.seen)) == 10_000
