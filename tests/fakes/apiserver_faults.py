"""What goes wrong at the fake API server, and when: the plan that a test lays out beforehand."""

import asyncio
import dataclasses
import enum
from typing import Any

from provisioner.kube import objects


class Effect(enum.Enum):
    """What the client gets instead of the answer."""

    STATUS = "status"
    """An HTTP status."""
    RESET = "reset"
    """The connection is reset."""
    HANG = "hang"
    """Nothing, until `Fault.release` or the end."""
    PARTIAL = "partial"
    """Only of a watch: half a line, then the end of the stream."""
    GARBAGE = "garbage"
    """A 200, or a line of a watch, that is no JSON."""


@dataclasses.dataclass
class Fault:
    """One thing that goes wrong.

    Attributes:
        verb: `list`, `get`, `watch`, `create`, `patch`, `delete`; empty: any.
        kind: of the objects; `None`: any.
        name: of the object; empty: any.
        subresource: `status`; `None`: any, empty: the object itself.
        nth: the first request that it hits, counted over those that match.
        times: how many in a row it hits.
        after: the request has had its effect by then; the client cannot know.
        status, reason, message, retry_after: of `Effect.STATUS`.
        hits: how often it has struck.
    """

    verb: str = ""
    kind: objects.Kind[Any] | None = None
    name: str = ""
    subresource: str | None = None
    nth: int = 1
    times: int = 1
    effect: Effect = Effect.STATUS
    after: bool = False
    status: int = 500
    reason: str = "InternalError"
    message: str = "an injected fault"
    retry_after: int | None = None
    hits: int = 0
    seen: int = 0
    _released: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)

    def strikes(self, verb: str, plural: str, name: str, subresource: str) -> bool:
        """Whether it hits this request; counts."""
        if (
            self.verb not in {"", verb}
            or (self.kind is not None and self.kind.plural != plural)
            or self.name not in {"", name}
            or self.subresource not in {None, subresource}
        ):
            return False
        self.seen += 1
        if not self.nth <= self.seen < self.nth + self.times:
            return False
        self.hits += 1
        return True

    def release(self) -> None:
        """Let requests that hang go on."""
        self._released.set()

    async def released(self) -> None:
        """Hang."""
        await self._released.wait()


class FaultPlan:
    """The faults that are still to come; the first that matches strikes."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        """Plan one; it is returned for its `hits`."""
        self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """From now on all goes well."""
        for fault in self._faults:
            fault.release()
        self._faults.clear()

    def strike(self, verb: str, plural: str, name: str, subresource: str) -> Fault | None:
        """The fault for this request, if any."""
        for fault in self._faults:
            if fault.strikes(verb, plural, name, subresource):
                return fault
        return None
