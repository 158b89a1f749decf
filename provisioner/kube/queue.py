"""The keyed work queue: whoever sees a change adds the object's key; a handler looks at the object and acts.

A key stands for "look at this object again", so adding it twice before the handler runs makes one run. No two
handlers ever run for one key. A key that is added while its handler runs is handled again afterwards, so that no
change is overlooked. A key leaves the queue only when its handler is `done`; one that raises is tried again.

Nothing is handed out before `start`, nor after `close` has begun.
"""

import asyncio
import collections
import dataclasses
import enum
import random
from collections.abc import Awaitable, Callable

import structlog

from provisioner import errors
from provisioner import metrics as metrics_module
from provisioner.kube import backoff, clock

_log = structlog.get_logger(__name__)

# So many keys that somebody waits for go first, then one of the bulk, so that it moves too.
_URGENT_IN_A_ROW = 8


class Lane(enum.Enum):
    """Who goes first."""

    WAITED_FOR = enum.auto()
    """Somebody waits for just this object: a Pod that cannot start."""
    BULK = enum.auto()


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What a handler makes of a key: `done()`, `retry()` or `retry_after(seconds)`."""

    failed: bool = False
    again_after: float | None = None


def done() -> Outcome:
    """There is nothing left to do until the key is added again; its failures are forgotten."""
    return Outcome()


def retry() -> Outcome:
    """Try again after the key's back-off, which grows with each failure in a row."""
    return Outcome(failed=True)


def retry_after(seconds: float) -> Outcome:
    """Look again after so many seconds; this is no failure."""
    return Outcome(again_after=seconds)


Handler = Callable[[str], Awaitable[Outcome]]


@dataclasses.dataclass(slots=True)
class _Delayed:
    due: float
    lane: Lane
    timer: clock.Timer


class KeyedQueue:
    """One queue and its workers. All methods belong to the event loop's thread."""

    def __init__(
        self,
        handler: Handler,
        *,
        name: str,
        workers: int,
        first: float = 1.0,
        limit: float = 300.0,
        metrics: metrics_module.Metrics | None = None,
        time: clock.Clock | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Nothing runs yet.

        Args:
            handler: looks at one key; whatever it raises is logged and counts as `retry`.
            name: for metrics and log lines (`provision`).
            workers: how many handlers run at once, at most.
            first: seconds before a key's first repetition; they double from there (and are jittered).
            limit: seconds between repetitions, at most.
        """
        self._name = name
        self._handler = handler
        self._workers = workers
        self._delays = backoff.Backoff(first, limit)
        self._metrics = metrics
        self._clock: clock.Clock = time or clock.LoopClock()
        self._chance = chance
        self._started = False
        self._ready: dict[Lane, collections.OrderedDict[str, float]] = {
            lane: collections.OrderedDict() for lane in Lane
        }
        self._delayed: dict[str, _Delayed] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._added_in_work: dict[str, Lane] = {}
        self._failures: collections.Counter[str] = collections.Counter()
        self._urgent_in_a_row = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        """How many keys wait for a worker; those that wait for their time do not count."""
        return sum(len(ready) for ready in self._ready.values())

    def add(self, key: str, lane: Lane = Lane.BULK) -> None:
        """Have the key handled as soon as a worker is free."""
        if key in self._running:
            if self._added_in_work.get(key) is not Lane.WAITED_FOR:
                self._added_in_work[key] = lane
            return
        if key in self._ready[Lane.WAITED_FOR] or key in self._ready[lane]:
            return
        since = self._ready[Lane.BULK].pop(key, self._clock.time())
        self._ready[lane][key] = since
        self._idle.clear()
        self._pump()

    def add_after(self, key: str, seconds: float, lane: Lane = Lane.BULK) -> None:
        """Have the key handled so many seconds from now, or sooner where something else adds it sooner.

        Each run of the handler makes all earlier wishes void: what comes next is for its outcome to say.
        """
        due = self._clock.time() + seconds
        pending = self._delayed.get(key)
        if pending is not None:
            if pending.due <= due:
                return
            pending.timer.cancel()
        timer = self._clock.call_later(seconds, lambda: self._due(key))
        self._delayed[key] = _Delayed(due, lane, timer)

    def forget(self, key: str) -> None:
        """Drop the key's failures and its pending wishes: the object is gone. One that is ready still runs."""
        del self._failures[key]
        self._drop_delayed(key)

    def failures(self, key: str) -> int:
        """How often in a row the key has failed."""
        return self._failures[key]

    def start(self) -> None:
        """Begin to hand out keys."""
        self._started = True
        self._pump()

    async def join(self) -> None:
        """Wait until no key is ready or running; keys that wait for their time do not count."""
        await self._idle.wait()

    async def close(self, grace: float = 0.0) -> None:
        """Hand out nothing more, wait for running handlers up to `grace` seconds, and cancel those left."""
        self._started = False
        for key in list(self._delayed):
            self._drop_delayed(key)
        running = list(self._running.values())
        if not running:
            return
        _, late = await asyncio.wait(running, timeout=grace)
        for task in late:
            task.cancel()
        if late:
            _log.warning("handlers cancelled at shutdown", queue=self._name, keys=sorted(self._running), grace=grace)
            await asyncio.wait(late)

    def _due(self, key: str) -> None:
        self.add(key, self._delayed.pop(key).lane)

    def _drop_delayed(self, key: str) -> None:
        pending = self._delayed.pop(key, None)
        if pending is not None:
            pending.timer.cancel()

    def _pump(self) -> None:
        while self._started and len(self._running) < self._workers and len(self):
            lane, key, since = self._take()
            self._drop_delayed(key)
            if self._metrics is not None:
                self._metrics.queue_age.labels(name=self._name).observe(self._clock.time() - since)
            task = asyncio.create_task(self._work(key, lane), name=f"{self._name} {key}")
            self._running[key] = task
        if self._metrics is not None:
            self._metrics.queue_depth.labels(name=self._name).set(len(self))
        if not len(self) and not self._running:
            self._idle.set()

    def _take(self) -> tuple[Lane, str, float]:
        urgent, bulk = self._ready[Lane.WAITED_FOR], self._ready[Lane.BULK]
        if urgent and (not bulk or self._urgent_in_a_row < _URGENT_IN_A_ROW):
            self._urgent_in_a_row += 1
            return Lane.WAITED_FOR, *urgent.popitem(last=False)
        self._urgent_in_a_row = 0
        return Lane.BULK, *bulk.popitem(last=False)

    async def _work(self, key: str, lane: Lane) -> None:
        outcome = retry()
        try:
            outcome = await self._handler(key)
        except errors.ProvisionerError as error:
            _log.warning("handler failed", queue=self._name, key=key, error=str(error))
        except Exception:  # noqa: BLE001 - whatever it is, the key must not be lost
            _log.exception("handler failed", queue=self._name, key=key)
        finally:
            del self._running[key]
            if self._started:
                self._settle(key, lane, outcome)
            self._pump()

    def _settle(self, key: str, lane: Lane, outcome: Outcome) -> None:
        if outcome.failed:
            self._failures[key] += 1
            if self._metrics is not None:
                self._metrics.queue_retries.labels(name=self._name).inc()
            self.add_after(key, self._delays.delay(self._failures[key], self._chance()), lane)
        else:
            del self._failures[key]
        if outcome.again_after is not None:
            self.add_after(key, outcome.again_after, lane)
        if key in self._added_in_work:
            self.add(key, self._added_in_work.pop(key))
