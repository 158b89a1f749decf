"""One watch: the changes of a kind after a resource version, as long as the API server keeps telling them.

The stream is one JSON document a line. It ends in three ways: the server closes it (its time is up, it restarts, or
we read too slowly) and the iteration simply ends; the connection breaks or falls silent, a `TransportError`; or the
server says that the resource version is too old, an `ExpiredError`. The caller goes on at the last resource version
it saw, or lists anew.
"""

import asyncio
import dataclasses
import enum
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from provisioner.kube import errors, objects

if TYPE_CHECKING:
    import aiohttp

    from provisioner.kube import transport

T = TypeVar("T", bound=objects.Object)

# The server ends a watch after a random time, so that not all come back together (as client-go asks for).
_SHORTEST_SECONDS = 300
_LONGEST_SECONDS = 600
_GRACE_SECONDS = 30

# A healthy server sends a bookmark about every minute; a connection that is silent for longer may be half open.
IDLE_SECONDS = 150.0

# After so many events in one piece, other tasks have their turn (about 5 ms of decoding).
_EVENTS_IN_A_ROW = 200


class Change(enum.Enum):
    """What happened to an object."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"


@dataclasses.dataclass(frozen=True, slots=True)
class Event(Generic[T]):
    """One change.

    Attributes:
        object: as it is now, or as it was last where it is deleted; `None` in a bookmark.
        resource_version: where to go on after this event.
    """

    change: Change
    object: T | None
    resource_version: str


class _Line(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _BookmarkMeta(msgspec.Struct, rename="camel"):
    resource_version: str


class _Bookmark(msgspec.Struct):
    metadata: _BookmarkMeta


_LINES = msgspec.json.Decoder(_Line)
_BOOKMARKS = msgspec.json.Decoder(_Bookmark)


@functools.cache
def _decoder(struct: type[T]) -> msgspec.json.Decoder[T]:
    return msgspec.json.Decoder(struct)


async def events(
    connection: "transport.Transport",
    kind: objects.Kind[T],
    path: str,
    params: Mapping[str, str],
    *,
    idle: float,
    chance: Callable[[], float],
) -> AsyncGenerator[Event[T], None]:
    """Watch until the server ends it.

    Args:
        idle: seconds of silence after which the connection counts as broken.
        chance: spreads the watches' ends.

    Raises:
        errors.ExpiredError: the resource version is too old.
        errors.DecodeError: a line is malformed or cut off; what it said is lost, so list anew.
        errors.TransportError: the connection broke, or was silent for too long.
    """
    seconds = _SHORTEST_SECONDS + int(chance() * (_LONGEST_SECONDS - _SHORTEST_SECONDS))
    doing = f"watch {kind.plural}"
    async with connection.stream(
        path,
        verb="watch",
        doing=doing,
        total=seconds + _GRACE_SECONDS,
        idle=idle,
        params={**params, "watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(seconds)},
    ) as stream:
        count = 0
        async for line in _lines(stream):
            yield _event(kind, line, doing)
            count += 1
            if count % _EVENTS_IN_A_ROW == 0:
                await asyncio.sleep(0)


async def _lines(stream: "aiohttp.StreamReader") -> AsyncIterator[bytes]:
    """Lines of any length; the reader's own `readline` refuses long ones."""
    rest = b""
    async for chunk in stream.iter_any():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if line:
                yield line
    if rest:
        yield rest  # cut off, most likely: then it does not decode


def _event(kind: objects.Kind[T], line: bytes, doing: str) -> Event[T]:
    try:
        said = _LINES.decode(line)
        if said.type == "ERROR":
            raise errors.from_response(0, bytes(said.object), doing=doing)
        change = Change(said.type)
        if change is Change.BOOKMARK:
            return Event(change, None, _BOOKMARKS.decode(said.object).metadata.resource_version)
        obj = _decoder(kind.type).decode(said.object)
    except (msgspec.MsgspecError, ValueError) as error:
        raise errors.DecodeError(f"cannot {doing}: a malformed event: {error}") from error
    return Event(change, obj, obj.metadata.resource_version)
