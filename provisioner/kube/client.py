"""Typed requests to the API server: list, get, watch, create, patch, delete; and which of them are repeated.

Reads are repeated after no answer, 5xx and 429, with jitter, inside a budget. Writes are repeated only where they
surely did nothing: after 429, and when no connection came about. Any other `TransportError` or `ServerError` of a
write leaves its outcome unknown: the caller reads again.

There is no PUT: objects are changed by patches alone, because the structs do not keep the fields they do not name.
"""

import asyncio
import dataclasses
import functools
import http
import random
import time
import urllib.parse
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from provisioner import metrics as metrics_module
from provisioner.kube import backoff, config, errors, objects, transport, watch

T = TypeVar("T", bound=objects.Object)
Answer = TypeVar("Answer")

PAGE_SIZE = 500

_RETRIES = 5
_BACKOFF = backoff.Backoff(first=0.2, limit=5.0)
_RETRIED_READS = (errors.TransportError, errors.ServerError, errors.TooManyRequestsError)
_RETRIED_WRITES = (errors.NotSentError, errors.TooManyRequestsError)
_NEVER_RETRIED = (errors.TlsError,)
_LONGEST_RETRY_AFTER = 30.0


@dataclasses.dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list.

    Attributes:
        resource_version: of the whole list, the same on each page: where a watch begins.
        continue_: the token of the next page, empty on the last one.
    """

    items: Sequence[T]
    resource_version: str
    continue_: str


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(name="continue", default="")


class _List(msgspec.Struct, Generic[T]):
    metadata: _ListMeta
    items: list[T] | None = None


@functools.cache
def _object_decoder(struct: type[T]) -> msgspec.json.Decoder[T]:
    return msgspec.json.Decoder(struct)


@functools.cache
def _list_decoder(struct: type[T]) -> msgspec.json.Decoder[_List[T]]:
    return msgspec.json.Decoder(_List[struct])  # type: ignore[valid-type]  # a class made at run time


class Client:
    """The API server's resources. One client serves the whole process; `close` it in the end."""

    def __init__(
        self,
        source: config.Source,
        *,
        timeout: float = 30.0,
        watch_idle: float = watch.IDLE_SECONDS,
        user_agent: str = "provisioner",
        metrics: metrics_module.Metrics | None = None,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Nothing is read or sent yet.

        Args:
            source: where the connection settings come from; see `config.load`.
            timeout: seconds for one request; repetitions have their own.
            watch_idle: seconds of silence after which a watch's connection counts as broken.
            user_agent: for the API server's audit log, and the field manager of our patches.
        """
        self._timeout = timeout
        self._watch_idle = watch_idle
        self._chance = chance
        self._sleep = sleep
        self._transport = transport.Transport(source, user_agent=user_agent, metrics=metrics, clock=clock)

    async def list(
        self,
        kind: objects.Kind[T],
        *,
        namespace: str | None = None,
        limit: int = PAGE_SIZE,
        continue_: str | None = None,
        resource_version: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> Page[T]:
        """One page of the objects; all namespaces where none is given.

        Args:
            resource_version: `"0"` takes any state the server has in memory (and then ignores `limit`).

        Raises:
            errors.ExpiredError: the continue token is too old; begin again.
        """
        answer = await self._read(
            "list",
            f"list {kind.plural}",
            _path(kind, namespace),
            {
                "limit": str(limit),
                "continue": continue_,
                "resourceVersion": resource_version,
                "labelSelector": label_selector,
                "fieldSelector": field_selector,
            },
        )
        page = _decode(_list_decoder(kind.type), answer, f"the list of {kind.plural}")
        return Page(page.items or [], page.metadata.resource_version, page.metadata.continue_)

    async def get(self, kind: objects.Kind[T], name: str, namespace: str | None = None) -> T:
        """The object as it is now (a quorum read).

        Raises:
            errors.NotFoundError: there is none.
        """
        path = _path(kind, namespace, name)
        return self._object(kind, await self._read("get", f'get {kind.plural} "{name}"', path, {}))

    def watch(
        self,
        kind: objects.Kind[T],
        *,
        resource_version: str,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> AsyncGenerator[watch.Event[T], None]:
        """The changes after `resource_version`, until the server ends the watch; see `watch.events`."""
        return watch.events(
            self._transport,
            kind,
            _path(kind, namespace),
            {
                "resourceVersion": resource_version,
                **_given({"labelSelector": label_selector, "fieldSelector": field_selector}),
            },
            idle=self._watch_idle,
            chance=self._chance,
        )

    async def create(self, kind: objects.Kind[T], obj: T | Mapping[str, Any], namespace: str | None = None) -> T:
        """Create the object and return it as the server keeps it.

        Raises:
            errors.AlreadyExistsError: there is one of this name.
        """
        body = msgspec.to_builtins(obj)
        meta = body.get("metadata", {})
        namespace = namespace or meta.get("namespace")
        name = meta.get("name") or f"{meta.get('generateName', '')}…"
        return self._object(
            kind,
            await self._write(
                "POST",
                "create",
                f'create {kind.plural} "{name}"',
                _path(kind, namespace),
                {"apiVersion": kind.api_version, "kind": kind.name, **body},
            ),
        )

    async def patch(
        self,
        kind: objects.Kind[T],
        name: str,
        patch: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        namespace: str | None = None,
        subresource: str | None = None,
    ) -> T:
        """Change the object, and return what it is then.

        Args:
            patch: a mapping is a JSON merge patch (RFC 7386); a sequence is a JSON patch (RFC 6902). A merge patch
                that names `metadata.uid` or `metadata.resourceVersion` applies to that very object or state alone.
            subresource: `status`.

        Raises:
            errors.ConflictError: such a precondition does not hold.
            errors.InvalidError: the change is not allowed, or a JSON patch's `test` failed (the server does not tell
                which).
        """
        merge = isinstance(patch, Mapping)
        return self._object(
            kind,
            await self._write(
                "PATCH",
                "patch",
                f'patch {kind.plural}{f"/{subresource}" if subresource else ""} "{name}"',
                _path(kind, namespace, name, subresource),
                patch,
                content_type="application/merge-patch+json" if merge else "application/json-patch+json",
            ),
        )

    async def delete(
        self,
        kind: objects.Kind[T],
        name: str,
        *,
        namespace: str | None = None,
        uid: str | None = None,
        resource_version: str | None = None,
    ) -> None:
        """Ask for the object's deletion; it stays, terminating, as long as it has finalizers.

        Raises:
            errors.NotFoundError: it is gone already (also where a lost answer made us ask twice).
            errors.ConflictError: it is not the object of this uid, or not in this state.
        """
        preconditions = _given({"uid": uid, "resourceVersion": resource_version})
        await self._write(
            "DELETE",
            "delete",
            f'delete {kind.plural} "{name}"',
            _path(kind, namespace, name),
            {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions},
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.close()

    async def _read(self, verb: str, doing: str, path: str, params: Mapping[str, str | None]) -> bytes:
        return await self._repeated(
            functools.partial(
                self._transport.request,
                "GET",
                path,
                verb=verb,
                doing=doing,
                timeout=self._timeout,
                params=_given(params),
            ),
            _RETRIED_READS,
        )

    async def _write(
        self,
        method: str,
        verb: str,
        doing: str,
        path: str,
        body: Mapping[str, Any] | Sequence[Any],
        *,
        content_type: str = "application/json",
    ) -> bytes:
        return await self._repeated(
            functools.partial(
                self._transport.request,
                method,
                path,
                verb=verb,
                doing=doing,
                timeout=self._timeout,
                body=msgspec.json.encode(body),
                content_type=content_type,
            ),
            _RETRIED_WRITES,
        )

    async def _repeated(
        self, send: Callable[[], Awaitable[Answer]], retried: tuple[type[errors.KubeError], ...]
    ) -> Answer:
        for failures in range(1, _RETRIES):
            try:
                return await send()
            except _NEVER_RETRIED:
                raise
            except retried as error:
                await self._sleep(self._pause(error, failures))
        return await send()

    def _pause(self, error: errors.KubeError, failures: int) -> float:
        pause = _BACKOFF.delay(failures, self._chance())
        if isinstance(error, errors.TooManyRequestsError):
            return pause + min(error.retry_after, _LONGEST_RETRY_AFTER)
        return pause

    def _object(self, kind: objects.Kind[T], answer: bytes) -> T:
        obj: T = _decode(_object_decoder(kind.type), answer, f"the {kind.name}")
        return obj


def _decode(decoder: msgspec.json.Decoder[Answer], answer: bytes, what: str) -> Answer:
    try:
        return decoder.decode(answer)
    except msgspec.MsgspecError as error:
        raise errors.DecodeError(f"{what} that the API server sent cannot be read: {error}") from error


def _given(params: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in params.items() if value}


def _path(
    kind: objects.Kind[Any], namespace: str | None, name: str | None = None, subresource: str | None = None
) -> str:
    parts = [f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"]
    if namespace:
        parts += ["namespaces", _segment(namespace)]
    parts.append(kind.plural)
    if name:
        parts.append(_segment(name))
    if subresource:
        parts.append(subresource)
    return "/".join(parts)


def _segment(name: str) -> str:
    """A name as a part of a URL; the server decodes before it splits, so no encoding makes these names safe."""
    if name in {".", ".."} or "/" in name or "%" in name:
        raise errors.InvalidError(f"{name!r} cannot be the name of an object", status=http.HTTPStatus.BAD_REQUEST)
    return urllib.parse.quote(name, safe="")
