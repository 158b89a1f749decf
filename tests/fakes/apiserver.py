"""A fake API server: real HTTP on loopback, with the semantics on which the client, the caches and controllers rely.

    async with FakeApiServer() as api:
        api.create(objects.CLAIMS, {"metadata": {"name": "data", "namespace": "default"}, "spec": {...}})
        api.faults.add(Fault(verb="create", kind=objects.VOLUMES, status=500, after=True))
        kube = client.Client(api.source())
        ...
        await api.wait_for(lambda: api.get(objects.CLAIMS, "data", "default")["status"]["phase"] == "Bound")

Resource versions, paging over snapshots, watches with bookmarks and 410, conflicts, preconditions, finalizers, the
status subresource and generateName behave as the real one's; so do patches that change nothing. Nobody binds claims,
removes protection finalizers, or collects garbage.
"""

import asyncio
import contextlib
import copy
import dataclasses
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import msgspec
from aiohttp import web

from provisioner.kube import config
from tests.fakes import apiserver_faults, apiserver_store

Fault = apiserver_faults.Fault
Effect = apiserver_faults.Effect
Json = apiserver_store.Json
AnyKind = apiserver_store.AnyKind

_VERBS = {"POST": "create", "PATCH": "patch", "DELETE": "delete"}


@dataclasses.dataclass
class Request:
    """One request as it came in, and what was answered (`status` 0: nothing)."""

    verb: str
    plural: str
    namespace: str
    name: str
    subresource: str
    params: Mapping[str, str]
    body: Any
    content_type: str
    authorization: str
    kind: AnyKind | None = None
    status: int = 0


class FakeApiServer:
    """The server; an async context manager.

    Attributes:
        faults: what is to go wrong.
        requests: all that came in, in order.
        token: when set, requests need it as bearer token (401).
        forbidden: pairs of verb and plural that RBAC does not allow (403).
        expired_as_status: answer a watch of a forgotten version with HTTP 410, not with an ERROR event.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.faults = apiserver_faults.FaultPlan()
        self.requests: list[Request] = []
        self.token = ""
        self.forbidden: set[tuple[str, str]] = set()
        self.expired_as_status = False
        self._tls = tls
        self._host = host
        self._port = 0
        self._store = apiserver_store.Store(changed=self._wake)
        self._runner: web.AppRunner | None = None
        self._changed = asyncio.Event()
        self._watches: dict[asyncio.Task[Any], _Watch] = {}
        self._kinds = {(kind.group, kind.version, kind.plural): kind for kind in apiserver_store.KINDS}

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        """Base URL."""
        return f"http{'s' if self._tls else ''}://{self._host}:{self._port}"

    @property
    def version(self) -> int:
        """The newest resource version."""
        return self._store.version

    @property
    def watching(self) -> int:
        """How many watches are open."""
        return len(self._watches)

    def source(self) -> config.Source:
        """Connection settings for `client.Client`."""
        return config.Fixed(config.Connection(self.url, authorization=f"Bearer {self.token}" if self.token else ""))

    async def start(self) -> None:
        """Listen; after `stop`, on the same port, with all objects still there."""
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port, ssl_context=self._tls, reuse_address=True)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Close the port and every connection, as a server that is killed."""
        self.faults.clear()
        self.reset_watches()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def create(self, kind: AnyKind, obj: Json) -> Json:
        """Create an object as if another client had."""
        namespace = obj.get("metadata", {}).get("namespace", "")
        return copy.deepcopy(self._store.create(kind, namespace, obj))

    def get(self, kind: AnyKind, name: str, namespace: str = "") -> Json | None:
        """A copy of the object, or nothing."""
        with contextlib.suppress(apiserver_store.RefusalError):
            return copy.deepcopy(self._store.get(kind, namespace, name))
        return None

    def list(self, kind: AnyKind) -> Sequence[Json]:
        """Copies of all objects of the kind, in the order of their names."""
        return copy.deepcopy(self._store.list(kind, lambda _: True, 0, "")[1])

    def patch(
        self, kind: AnyKind, name: str, patch: Json | Sequence[Json], namespace: str = "", subresource: str = ""
    ) -> Json:
        """Change an object as if another client had."""
        return copy.deepcopy(self._store.patch(kind, namespace, name, subresource, patch))

    def delete(self, kind: AnyKind, name: str, namespace: str = "") -> None:
        """Delete an object as if another client had: with finalizers it only becomes terminating."""
        self._store.delete(kind, namespace, name, {})

    def compact(self) -> None:
        """Forget the history: older versions and continue tokens are answered 410 from now on."""
        self._store.compact()

    def restore(self, version: int) -> None:
        """As if etcd had been restored from a backup of this version: the next change has a smaller number."""
        self._store.version = version
        self._store.compact()
        self._store.compacted = 0

    def bookmark(self) -> None:
        """Send a bookmark to every watch that asked for them."""
        for watch in self._watches.values():
            watch.bookmark_due = True
        self._wake()

    def close_watches(self) -> None:
        """End every watch as when its time is up."""
        for watch in self._watches.values():
            watch.ended = True
        self._wake()

    def reset_watches(self) -> None:
        """Break the connection of every watch."""
        for watch in self._watches.values():
            _abort(watch.request)

    def count(self, verb: str, kind: AnyKind | None = None) -> int:
        """How many such requests came in."""
        return sum(r.verb == verb and (kind is None or r.plural == kind.plural) for r in self.requests)

    async def wait_for(self, condition: Callable[[], Any], timeout: float = 5.0) -> None:
        """Wait until the condition holds; it is looked at after each request and change, and every few milliseconds."""
        async with asyncio.timeout(timeout):
            while not condition():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), 0.005)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        asked = await self._parse(request)
        self.requests.append(asked)
        fault = self.faults.strike(asked.verb, asked.plural, asked.name, asked.subresource)
        try:
            if fault is not None and not fault.after:
                return await self._fail(request, asked, fault)
            response = await self._answer(request, asked)
            if fault is not None:
                return await self._fail(request, asked, fault)
        except apiserver_store.RefusalError as refusal:
            response = _json(refusal.body(), refusal.status)
        asked.status = response.status
        self._wake()
        return response

    async def _parse(self, request: web.Request) -> Request:
        group, version, namespace, plural, name, subresource = _split(request.path)
        verb = _VERBS.get(request.method, "get" if name else "list")
        if verb == "list" and request.query.get("watch") in {"true", "1"}:
            verb = "watch"
        raw = await request.read()
        return Request(
            verb,
            plural,
            namespace,
            name,
            subresource,
            dict(request.query),
            msgspec.json.decode(raw) if raw else None,
            request.content_type,
            request.headers.get("Authorization", ""),
            self._kinds.get((group, version, plural)),
        )

    async def _fail(self, request: web.Request, asked: Request, fault: Fault) -> web.StreamResponse:
        match fault.effect:
            case Effect.STATUS:
                refusal = apiserver_store.RefusalError(fault.status, fault.reason, fault.message)
                response = _json(refusal.body(), fault.status)
                if fault.retry_after is not None:
                    response.headers["Retry-After"] = str(fault.retry_after)
                asked.status = fault.status
                return response
            case Effect.GARBAGE:
                return web.Response(body=b"<html>\n", content_type="application/json")
            case Effect.PARTIAL:
                return web.Response(body=b'{"type":"ADDED","object":{"metadata":{"na', content_type="application/json")
            case Effect.HANG:
                await fault.released()
            case Effect.RESET:
                pass
        _abort(request)
        return web.Response()

    async def _answer(self, request: web.Request, asked: Request) -> web.StreamResponse:
        if self.token and asked.authorization != f"Bearer {self.token}":
            raise apiserver_store.RefusalError(401, "Unauthorized", "Unauthorized")
        kind = asked.kind
        if kind is None:
            raise apiserver_store.RefusalError(404, "NotFound", "the server could not find the requested resource")
        resource = asked.plural + (f"/{asked.subresource}" if asked.subresource else "")
        if (asked.verb, resource) in self.forbidden:
            raise apiserver_store.RefusalError(403, "Forbidden", _forbidden(asked, kind, resource))
        match asked.verb:
            case "list":
                return self._list(asked, kind)
            case "watch":
                return await self._watch(request, asked, kind)
            case "get":
                return _json(self._store.get(kind, asked.namespace, asked.name))
            case "create":
                return _json(self._store.create(kind, asked.namespace, asked.body), 201)
            case "patch":
                return self._patch(asked, kind)
            case _:
                options = asked.body or {}
                preconditions = options.get("preconditions") or {}
                return _json(self._store.delete(kind, asked.namespace, asked.name, preconditions))

    def _list(self, asked: Request, kind: AnyKind) -> web.Response:
        version, items, continue_ = self._store.list(
            kind, _selection(asked), int(asked.params.get("limit", "0")), asked.params.get("continue", "")
        )
        meta: Json = {"resourceVersion": str(version)}
        if continue_:
            meta["continue"] = continue_
        return _json({"kind": f"{kind.name}List", "apiVersion": kind.api_version, "metadata": meta, "items": items})

    def _patch(self, asked: Request, kind: AnyKind) -> web.Response:
        expected = "application/json-patch+json" if isinstance(asked.body, list) else "application/merge-patch+json"
        if asked.content_type != expected:
            raise apiserver_store.RefusalError(415, "UnsupportedMediaType", f"want {expected}")
        return _json(self._store.patch(kind, asked.namespace, asked.name, asked.subresource, asked.body))

    async def _watch(self, request: web.Request, asked: Request, kind: AnyKind) -> web.StreamResponse:
        seen = int(asked.params.get("resourceVersion", "0") or "0")
        expired = apiserver_store.RefusalError(
            410, "Expired", f"too old resource version: {seen} ({self._store.compacted})"
        )
        if seen < self._store.compacted and self.expired_as_status:
            raise expired
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        try:
            await response.prepare(request)
        except ConnectionError:  # the client has gone already
            return response
        if seen < self._store.compacted:
            await response.write(_line("ERROR", expired.body()))
            return response
        asked.status = 200
        watch = _Watch(request, response, kind, seen, _selection(asked), asked.params.get("allowWatchBookmarks", ""))
        task = asyncio.current_task()
        assert task is not None
        self._watches[task] = watch
        self._wake()
        try:
            async with asyncio.timeout(int(asked.params.get("timeoutSeconds", "1800"))):
                while not watch.ended:
                    changed = self._changed
                    await watch.send(self._store)
                    await changed.wait()
        except (TimeoutError, ConnectionError):
            pass
        finally:
            del self._watches[task]
        return response


@dataclasses.dataclass
class _Watch:
    request: web.Request
    response: web.StreamResponse
    kind: AnyKind
    seen: int
    matches: apiserver_store.Matcher
    bookmarks: str
    bookmark_due: bool = False
    ended: bool = False

    async def send(self, store: apiserver_store.Store) -> None:
        self.seen = max(self.seen, store.compacted)  # a watch that is open has been told all there was
        for change in list(store.since(self.seen, self.kind.plural)):
            event = change.event(self.matches)
            self.seen = change.version
            if event is not None:
                await self.response.write(_line(*event))
        if self.bookmark_due and self.bookmarks:
            self.bookmark_due = False
            self.seen = store.version
            meta = {"resourceVersion": str(store.version), "creationTimestamp": None}
            mark = {"kind": self.kind.name, "apiVersion": self.kind.api_version, "metadata": meta}
            await self.response.write(_line("BOOKMARK", mark))


def _line(change: str, obj: Json) -> bytes:
    return msgspec.json.encode({"type": change, "object": obj}) + b"\n"


def _json(body: Json, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json")


def _selection(asked: Request) -> apiserver_store.Matcher:
    matches = apiserver_store.selector(asked.params.get("labelSelector", ""), asked.params.get("fieldSelector", ""))
    if not asked.namespace:
        return matches
    return lambda obj: obj["metadata"].get("namespace") == asked.namespace and matches(obj)


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def _forbidden(asked: Request, kind: AnyKind, resource: str) -> str:
    thing = f'{asked.plural} "{asked.name}"' if asked.name else asked.plural
    where = f'in the namespace "{asked.namespace}"' if asked.namespace else "at the cluster scope"
    return (
        f'{thing} is forbidden: User "system:serviceaccount:default:provisioner" cannot {asked.verb} resource '
        f'"{resource}" in API group "{kind.group}" {where}'
    )


def _split(path: str) -> tuple[str, str, str, str, str, str]:
    """Group, version, namespace, plural, name and subresource of a URL's path; what is not there is empty."""
    parts: Iterator[str] = iter(path.strip("/").split("/"))
    group = next(parts, "") if next(parts, "") == "apis" else ""
    version = next(parts, "")
    plural, namespace = next(parts, ""), ""
    if plural == "namespaces":
        namespace, plural = next(parts, ""), next(parts, "")
    return group, version, namespace, plural, next(parts, ""), next(parts, "")
