"""One HTTP request to the API server, and what can become of it: an answer, a refusal, or no answer.

The connection settings are read when the first request needs them, and again when they are old, when the server does
not know us (401), or when no connection comes about: a kubeconfig or a certificate that was mended is picked up
without a restart. Connections are pooled by their TLS context, so that new settings disturb no running request.
"""

import asyncio
import contextlib
import functools
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

import aiohttp
import structlog
import yarl

from provisioner import metrics as metrics_module
from provisioner.kube import config, errors

_log = structlog.get_logger(__name__)

_CONNECTIONS = 32
_CONNECT_SECONDS = 10.0
_RENEWAL_RETRY_SECONDS = 10.0
_KEEPALIVE_SECONDS = 60.0  # below the server's 90, so that we never write to a connection that it is closing

# What OpenSSL's verification found (x509_vfy.h), in the words of somebody who has to mend it.
_TLS_FAULTS: Mapping[int, tuple[str, str]] = {
    9: ("its certificate is not yet valid", "check the clocks of both machines"),
    10: ("its certificate has expired", "renew the API server's certificate"),
    18: ("its certificate is self-signed and not trusted", "put it into the kubeconfig as certificate-authority"),
    19: ("its certificate authority is not trusted", "put the cluster's CA into the kubeconfig"),
    20: ("its certificate authority is unknown", "put the cluster's CA into the kubeconfig"),
    62: ("its certificate is for another host name", "use one of its names, or set tls-server-name"),
    64: ("its certificate is for another address", "use one of its addresses, or set tls-server-name"),
}


class Clock(Protocol):
    """`time.monotonic`, or a test's."""

    def __call__(self) -> float:
        """Seconds since some moment."""


class Transport:
    """Sends requests over a pool of connections; `close` it in the end."""

    def __init__(
        self,
        source: config.Source,
        *,
        user_agent: str,
        metrics: metrics_module.Metrics | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._source = source
        self._user_agent = user_agent
        self._metrics = metrics
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._connection: config.Connection | None = None
        self._due = 0.0
        self._loading = asyncio.Lock()

    async def request(
        self,
        method: str,
        path: str,
        *,
        verb: str,
        doing: str,
        timeout: float,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        """Send one request and return the body of its 2xx answer.

        A request that is answered 401 is sent once more with settings read anew: it has had no effect.

        Args:
            verb: Kubernetes' word for it (`list`), for the metrics.
            doing: the beginning of an error's message (`list persistentvolumes`).
            timeout: seconds until the whole answer must be there.
        """
        send = functools.partial(
            self._whole, method, path, verb, doing, timeout, params=params, body=body, content_type=content_type
        )
        try:
            return await send()
        except errors.UnauthorizedError:
            return await send()

    @contextlib.asynccontextmanager
    async def stream(
        self,
        path: str,
        *,
        verb: str,
        doing: str,
        total: float,
        idle: float,
        params: Mapping[str, str],
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """GET an answer that goes on for up to `total` seconds, and is never silent for `idle` seconds."""
        limits = aiohttp.ClientTimeout(total=total, sock_connect=_CONNECT_SECONDS, sock_read=idle)
        async with self._open("GET", path, verb=verb, doing=doing, limits=limits, params=params) as response:
            yield response.content

    async def close(self) -> None:
        """Close all connections; requests that run fail with a `TransportError`."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _whole(self, method: str, path: str, verb: str, doing: str, seconds: float, **request: Any) -> bytes:
        limits = aiohttp.ClientTimeout(total=seconds, sock_connect=_CONNECT_SECONDS)
        async with self._open(method, path, verb=verb, doing=doing, limits=limits, **request) as response:
            return await response.read()

    @contextlib.asynccontextmanager
    async def _open(
        self,
        method: str,
        path: str,
        *,
        verb: str,
        doing: str,
        limits: aiohttp.ClientTimeout,
        params: Mapping[str, str] | None,
        body: bytes | None = None,
        content_type: str = "",
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        connection = await self._connected()
        headers = {"Content-Type": content_type} if body is not None else {}
        if connection.authorization:
            headers["Authorization"] = connection.authorization
        code = "error"
        try:
            async with self._pool().request(
                method,
                yarl.URL(connection.server + path, encoded=True),
                params=params,
                data=body,
                headers=headers,
                timeout=limits,
                allow_redirects=False,
                ssl=connection.tls if connection.tls is not None else True,
                server_hostname=connection.server_name or None,
                proxy=connection.proxy or None,
            ) as response:
                code = str(response.status)
                if not 200 <= response.status < 300:  # noqa: PLR2004 - 2xx
                    raise errors.from_response(
                        response.status,
                        await response.read(),
                        doing=doing,
                        retry_after=_seconds(response.headers.get("Retry-After", "")),
                    )
                yield response
        except errors.UnauthorizedError:
            self._forget(connection)
            raise
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            described = _describe(error, f"cannot {doing} at {connection.server}")
            if isinstance(described, errors.NotSentError):
                self._forget(connection)
            raise described from error
        finally:
            if self._metrics is not None:
                self._metrics.api_requests.labels(verb=verb, code=code).inc()

    def _forget(self, connection: config.Connection) -> None:
        """Have the settings read anew before the next request, unless they have been since."""
        if self._connection is connection:
            self._connection = None

    async def _connected(self) -> config.Connection:
        async with self._loading:
            if self._connection is None:
                self._connection = await self._source.connect()
                self._due = self._clock() + self._connection.max_age
            elif self._clock() >= self._due:
                self._connection = await self._renewed(self._connection)
            return self._connection

    async def _renewed(self, old: config.Connection) -> config.Connection:
        """Read settings that are old; where that fails they are kept until the server refuses them."""
        try:
            new = await self._source.connect()
        except errors.ConfigError as error:
            _log.warning("the connection settings could not be read anew", error=str(error))
            self._due = self._clock() + _RENEWAL_RETRY_SECONDS
            return old
        self._due = self._clock() + new.max_age
        return new

    def _pool(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS, keepalive_timeout=_KEEPALIVE_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                # Compressing costs both sides more than a cluster's own network does.
                headers={"User-Agent": self._user_agent, "Accept": "application/json", "Accept-Encoding": "identity"},
            )
        return self._session


def _describe(error: Exception, message: str) -> errors.TransportError:
    """Tell the three kinds of no answer apart: TLS, never connected, and unknown."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return _certificate_error(error.certificate_error, message)
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return errors.TlsError(
            f"{message}: TLS failed: {error}", remedy="check that the address is the API server's, and its certificates"
        )
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError | aiohttp.InvalidURL):
        return errors.NotSentError(
            f"{message}: {error}", remedy="check the address and that the API server runs; it is tried again"
        )
    if isinstance(error, TimeoutError):
        return errors.TransportError(f"{message}: no answer in time")
    return errors.TransportError(f"{message}: {str(error) or type(error).__name__}")


def _certificate_error(cause: Exception, message: str) -> errors.TlsError:
    code = getattr(cause, "verify_code", 0)
    fault, remedy = _TLS_FAULTS.get(code, (str(cause), "check the certificate-authority of the kubeconfig"))
    return errors.TlsError(f"{message}: the API server is not trusted: {fault}", remedy=remedy)


def _seconds(header: str) -> float:
    """Retry-After in seconds; the API server never sends a date."""
    return float(header) if header.isascii() and header.isdecimal() else 0.0
