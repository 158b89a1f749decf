"""Events on objects, as `kubectl describe` shows them: best effort, never in anybody's way, never a flood.

`record` only puts a note into a bounded queue; `run` writes the notes. The same type, reason and message on the same
object is one Event whose count grows. Each object has a budget, so that a loop that goes wrong costs a few requests
and not the API server: a burst first, then one in five minutes, as with client-go's spam filter.

While there is much else to write, Normal notes wait for a while, so that what users wait for comes first. Warnings
never wait.
"""

import asyncio
import collections
import dataclasses
import datetime
import hashlib
from collections.abc import Callable

import structlog

from provisioner.kube import client, clock, errors, objects

_log = structlog.get_logger(__name__)

_QUEUED = 5000  # about what 1,000 claims at once have to say
_REMEMBERED = 4096
_BURST = 25.0
_REFILL_PER_SECOND = 1 / 300
_LONGEST_MESSAGE = 1024  # bytes; the API server may refuse longer ones
_LONGEST_NAME = 253
_PATIENCE = 15.0  # seconds that a Normal note waits at most for more urgent work
_LOOK = 0.1  # seconds between two looks whether that is done


@dataclasses.dataclass(frozen=True, slots=True)
class _Note:
    """What was said, and about whom."""

    regarding: objects.ObjectReference
    type: str
    reason: str
    message: str

    @property
    def name(self) -> str:
        """The Event's name: the same note has the same one, also after a restart."""
        said = f"{self.regarding.uid}\0{self.type}\0{self.reason}\0{self.message}"
        digest = hashlib.sha256(said.encode()).hexdigest()[:16]
        return f"{self.regarding.name[: _LONGEST_NAME - len(digest) - 1].rstrip('.-')}.{digest}"


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class _Waiting:
    """A note in the queue: Warnings first, else in the order in which they were recorded."""

    lane: int
    number: int
    since: float
    note: _Note = dataclasses.field(compare=False)


@dataclasses.dataclass(slots=True)
class _Budget:
    """A token bucket."""

    tokens: float
    at: float

    def take(self, now: float) -> bool:
        self.tokens = min(_BURST, self.tokens + (now - self.at) * _REFILL_PER_SECOND)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


def _utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class Recorder:
    """Records events. `run` must run for any to be written; `flush` before the end writes those that wait."""

    def __init__(
        self,
        api: client.Client,
        *,
        component: str,
        instance: str,
        busy: Callable[[], bool] = lambda: False,
        time: clock.Clock | None = None,
        now: Callable[[], datetime.datetime] = _utc_now,
    ) -> None:
        """Nothing runs yet.

        Args:
            component: who says it, for users: the driver's name.
            instance: which one of us says it: the Pod's or node's name.
            busy: whether there is much to write that users wait for.
        """
        self._api = api
        self._component = component
        self._instance = instance
        self._clock: clock.Clock = time or clock.LoopClock()
        self._now = now
        self._busy = busy
        self._flushing = False
        self._recorded = 0
        self._warnings = 0
        self._queue: asyncio.PriorityQueue[_Waiting] = asyncio.PriorityQueue(2 * _QUEUED)
        self._counts: collections.OrderedDict[str, int] = collections.OrderedDict()
        self._budgets: collections.OrderedDict[str, _Budget] = collections.OrderedDict()
        self._said_forbidden = False
        self.dropped = 0

    def record(self, regarding: objects.ObjectReference, type_: str, reason: str, message: str) -> None:
        """Say it, sooner or later; returns at once and never fails.

        Args:
            regarding: see `objects.Kind.reference`; events on cluster-scoped objects are kept in `default`.
            type_: `Normal` or `Warning`.
            reason: one CamelCase word, for machines.
            message: for people; no secrets.
        """
        message = _shortened(message)
        # The version would make each note on a changing object another one.
        regarding = objects.ObjectReference(
            api_version=regarding.api_version,
            kind=regarding.kind,
            namespace=regarding.namespace,
            name=regarding.name,
            uid=regarding.uid,
        )
        note = _Note(regarding, type_, reason, message)
        if not self._budget(regarding).take(self._clock.time()):
            self._drop(note, "the object has had too many")
            return
        self._recorded += 1
        lane = 0 if type_ == "Warning" else 1
        self._warnings += lane == 0
        if lane and self._queue.qsize() >= _QUEUED:
            self._drop(note, "too many wait to be written")  # What is left is for Warnings.
            return
        try:
            self._queue.put_nowait(_Waiting(lane, self._recorded, self._clock.time(), note))
        except asyncio.QueueFull:
            self._drop(note, "too many wait to be written")

    async def run(self) -> None:
        """Write notes until cancelled."""
        while True:
            waiting = await self._queue.get()
            try:
                if waiting.lane:
                    await self._give_way(waiting.since + _PATIENCE)
                await self._write(waiting.note)
            finally:
                self._queue.task_done()

    async def flush(self, timeout: float) -> None:
        """Wait until all notes are written, up to `timeout` seconds; `run` must be running. Nothing waits any more."""
        self._flushing = True
        try:
            await asyncio.wait_for(self._queue.join(), timeout)
        except TimeoutError:
            _log.warning("events left unwritten", count=self._queue.qsize())
        finally:
            self._flushing = False

    async def _give_way(self, until: float) -> None:
        """Wait while there is more urgent work, or until a Warning comes."""
        warnings = self._warnings
        while self._busy() and not self._flushing and self._warnings == warnings and self._clock.time() < until:
            await self._clock.sleep(_LOOK)

    def _budget(self, regarding: objects.ObjectReference) -> _Budget:
        owner = regarding.uid or f"{regarding.kind}/{regarding.key}"
        budget = self._budgets.get(owner)
        if budget is None:
            budget = self._budgets[owner] = _Budget(_BURST, self._clock.time())
        self._budgets.move_to_end(owner)
        _trim(self._budgets)
        return budget

    def _drop(self, note: _Note, why: str) -> None:
        self.dropped += 1
        _log.debug("event dropped", why=why, object=note.regarding.key, reason=note.reason, dropped=self.dropped)

    async def _write(self, note: _Note) -> None:
        namespace = note.regarding.namespace or "default"
        try:
            if note.name in self._counts:
                await self._again(note, namespace)
            else:
                await self._first(note, namespace)
        except errors.ForbiddenError as error:
            if not self._said_forbidden:
                self._said_forbidden = True
                _log.warning("events are not recorded", error=str(error))
        except errors.KubeError as error:
            self._counts.pop(note.name, None)
            _log.info("event lost", object=note.regarding.key, reason=note.reason, error=str(error))

    async def _first(self, note: _Note, namespace: str) -> None:
        now = self._now().replace(microsecond=0)
        event = objects.Event(
            metadata=objects.ObjectMeta(name=note.name, namespace=namespace),
            involved_object=note.regarding,
            reason=note.reason,
            message=note.message,
            type=note.type,
            count=1,
            first_timestamp=now,
            last_timestamp=now,
            source=objects.EventSource(component=self._component, host=self._instance),
            reporting_component=self._component,
            reporting_instance=self._instance,
        )
        try:
            event = await self._api.create(objects.EVENTS, event)
        except errors.AlreadyExistsError:  # said before we were started
            event = await self._api.get(objects.EVENTS, note.name, namespace)
            self._counts[note.name] = event.count
            await self._again(note, namespace)
        else:
            self._remember(note, event.count)

    async def _again(self, note: _Note, namespace: str) -> None:
        count = self._counts[note.name] + 1
        last = self._now().replace(microsecond=0).isoformat().replace("+00:00", "Z")
        try:
            await self._api.patch(
                objects.EVENTS, note.name, {"count": count, "lastTimestamp": last}, namespace=namespace
            )
        except errors.NotFoundError:  # the API server forgets events after an hour
            del self._counts[note.name]
            await self._first(note, namespace)
        else:
            self._remember(note, count)

    def _remember(self, note: _Note, count: int) -> None:
        self._counts[note.name] = count
        self._counts.move_to_end(note.name)
        _trim(self._counts)


def _shortened(message: str) -> str:
    encoded = message.encode()
    if len(encoded) <= _LONGEST_MESSAGE:
        return message
    return encoded[: _LONGEST_MESSAGE - len("…".encode())].decode(errors="ignore") + "…"


def _trim(remembered: "collections.OrderedDict[str, int] | collections.OrderedDict[str, _Budget]") -> None:
    if len(remembered) > _REMEMBERED:
        remembered.popitem(last=False)
