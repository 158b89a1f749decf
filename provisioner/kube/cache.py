"""A cache of one kind: it lists in pages, then watches, and goes on for ever.

A watch that ends is taken up where it ended: at once where the server closed it, with growing pauses where it fails.
Only where the server no longer has the history (410), or a piece of it was lost, is everything listed again; then
subscribers get the differences alone, the deletions in between included.

An API server that cannot be reached, does not know us or lacks a permission is said once in the log, and tried
again until it works; `healthy` tells the probes.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import structlog

from provisioner import metrics as metrics_module
from provisioner.kube import backoff, client, clock, errors, objects, store, watch

_log = structlog.get_logger(__name__)

T = TypeVar("T", bound=objects.Object)

_BACKOFF = backoff.Backoff(first=0.2, limit=30.0)

# A watch that lasted so long has worked: the pauses begin anew. One that ends sooner without a word has failed.
_WORKING_SECONDS = 5.0


class _HistoryLostError(errors.KubeError):
    """The versions went backwards: the server has another history than the one we followed."""


class Cache(Generic[T]):
    """The objects of one kind (or of a selection of it), as new as the watch is.

    Attributes:
        synced: set once the first list is complete; the objects have been told to the subscribers by then.
    """

    def __init__(
        self,
        api: client.Client,
        kind: objects.Kind[T],
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        metrics: metrics_module.Metrics | None = None,
        time: clock.Clock | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.kind = kind
        self.synced = asyncio.Event()
        self._api = api
        self._namespace = namespace
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._metrics = metrics
        self._clock: clock.Clock = time or clock.LoopClock()
        self._chance = chance
        self._store: store.Store[T] = store.Store()
        self._watch_from: int | None = None
        self._last_contact: float | None = None
        self._failures = 0
        self._said = ""

    def __len__(self) -> int:
        return len(self._store)

    def get(self, key: str) -> T | None:
        """The object of this key (`namespace/name`, or `name`), or nothing."""
        return self._store.get(key)

    def values(self) -> Sequence[T]:
        """All objects, a snapshot."""
        return self._store.values()

    def subscribe(self, subscriber: store.Subscriber[T]) -> None:
        """Call `subscriber(old, new)` for each change, in order; `old` is `None` if it is new, `new` if it is gone.

        It is called at once for the objects that are there already. It must not block; what it raises is logged.
        """
        self._store.subscribe(subscriber)

    def add_index(self, name: str, values_of: store.IndexFunction[T]) -> None:
        """Keep the objects findable by the values that `values_of(object)` yields."""
        self._store.add_index(name, values_of)

    def by_index(self, name: str, value: str) -> Sequence[T]:
        """The objects for which the index yields this value."""
        return self._store.by_index(name, value)

    def observe(self, obj: T) -> None:
        """Put in the answer of a write of our own at once, before the watch brings it.

        It is ignored where the watch is already further. The object must belong to the cache's selection.
        """
        self._store.observe(obj)

    @property
    def age(self) -> float:
        """Seconds since the API server was last heard of; a quiet watch has a bookmark about every 60 s."""
        return float("inf") if self._last_contact is None else self._clock.time() - self._last_contact

    def healthy(self, max_silence: float) -> bool:
        """Whether the first list is complete and the last word is not older than this, in seconds (sensibly ≥ 180)."""
        return self.synced.is_set() and self.age <= max_silence

    @property
    def trouble(self) -> str:
        """What keeps the API server from being heard, for a reader; empty where nothing does."""
        return self._said

    async def run(self) -> None:
        """List and watch until cancelled."""
        while True:
            try:
                await self._follow()
            except errors.KubeError as error:
                await self._failed(error)

    async def _follow(self) -> None:
        if self._watch_from is None:
            await self._list()
        opened = self._clock.time()
        heard = False
        try:
            heard = await self._watch()
        finally:
            lasted = self._clock.time() - opened >= _WORKING_SECONDS
            if heard or lasted:
                self._failures = 0
        if not (heard or lasted):
            raise errors.TransportError(f"the watch of {self.kind.plural} was closed at once")
        self._count_restart("closed")

    async def _list(self) -> None:
        listed: set[str] = set()
        limit, continue_ = client.PAGE_SIZE, None
        at: int | None = None
        while at is None or continue_:
            try:
                page = await self._api.list(
                    self.kind,
                    namespace=self._namespace,
                    limit=limit,
                    continue_=continue_,
                    label_selector=self._label_selector,
                    field_selector=self._field_selector,
                )
            except errors.ExpiredError:
                if limit == 0:
                    raise
                # Slower than the server forgets: what was put in stays, the rest comes in one piece.
                limit, continue_, at = 0, None, None
                listed.clear()
                continue
            self._last_contact = self._clock.time()
            if at is None:
                at = store.version(page.resource_version)
                if at < self._store.progress:
                    self._store.clear_versions_after(at)
            for obj in page.items:
                listed.add(obj.metadata.key)
                self._store.put(obj)
            continue_ = page.continue_
        self._store.relist(listed, at)
        self._watch_from = at
        self._heard()
        self.synced.set()

    async def _watch(self) -> bool:
        """Follow one watch to its end; whether it said anything."""
        heard = False
        stream = self._api.watch(
            self.kind,
            resource_version=str(self._watch_from),
            namespace=self._namespace,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
        )
        async with contextlib.aclosing(stream) as events:
            async for event in events:
                self._apply(event)
                self._heard()
                heard = True
        return heard

    def _apply(self, event: watch.Event[T]) -> None:
        at = store.version(event.resource_version)
        if at < self._store.progress:
            raise _HistoryLostError(f"{self.kind.plural} went back to version {at} from {self._store.progress}")
        if event.object is not None:
            if event.change is watch.Change.DELETED:
                self._store.remove(event.object)
            else:
                self._store.put(event.object)
        self._store.progress = self._watch_from = at

    def _heard(self) -> None:
        self._last_contact = self._clock.time()
        if self._said:
            self._said = ""
            _log.info("the watch works again", kind=self.kind.name)

    async def _failed(self, error: errors.KubeError) -> None:
        reason = _reason(error)
        self._count_restart(reason)
        if reason in _HISTORY_LOST:
            self._watch_from = None
        self._failures += 1
        if self._failures == 1 and reason == "expired":
            return  # in the ordinary course of things: list again at once
        if str(error) != self._said:
            self._said = str(error)
            _log.warning("the watch is interrupted", kind=self.kind.name, reason=reason, error=self._said)
        await self._clock.sleep(_BACKOFF.delay(self._failures, self._chance()))

    def _count_restart(self, reason: str) -> None:
        if self._metrics is not None:
            self._metrics.watch_restarts.labels(kind=self.kind.name, reason=reason).inc()


_HISTORY_LOST = frozenset({"expired", "malformed", "history"})


def _reason(error: errors.KubeError) -> str:
    match error:
        case errors.ExpiredError():
            return "expired"
        case errors.DecodeError():
            return "malformed"
        case _HistoryLostError():
            return "history"
        case errors.TransportError():
            return "connection"
        case _:
            return "refused"
