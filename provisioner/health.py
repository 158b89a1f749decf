"""The HTTP face of the process: `/metrics` for Prometheus, `/healthz` and `/readyz` for the kubelet's probes.

`/readyz` asks every check that was added and answers with a line for each, so that `curl` says why a process is not
ready. `/healthz` is for the liveness probe: that it is answered says that the event loop turns, which is all that a
restart could mend; it never fails because a disk is unmounted or the API server is away.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import prometheus_client
import structlog
from aiohttp import web

from provisioner import errors

Check = Callable[[], Awaitable[None]]
"""Returns when all is well; raises `errors.ProvisionerError` to say what is not."""

CHECK_SECONDS = 3.0

log = structlog.get_logger(__name__)


class HealthServer:
    """Serves the metrics of one process and the results of its checks."""

    def __init__(self, address: str, registry: prometheus_client.CollectorRegistry) -> None:
        self._host, self._port = parse_address(address)
        self._registry = registry
        self._ready: dict[str, Check] = {}
        self._runner: web.AppRunner | None = None

    def add_ready(self, name: str, check: Check) -> None:
        """Ask `check` for `/readyz`."""
        self._ready[name] = check

    @property
    def port(self) -> int:
        """The port that is really used, also where 0 was asked for."""
        if self._runner is None:
            return self._port
        return int(self._runner.addresses[0][1])

    async def start(self) -> None:
        """Listen.

        Raises:
            errors.BackendUnavailableError: the address is taken or not ours.
        """
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host or None, self._port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise errors.BackendUnavailableError(
                f"cannot serve metrics on {self._host}:{self._port}: {error.strerror}",
                remedy="choose another --metrics-address, or end the process that has this one",
            ) from error

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _metrics(self, _request: web.Request) -> web.Response:
        body = prometheus_client.generate_latest(self._registry)
        return web.Response(body=body, headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST})

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _request: web.Request) -> web.Response:
        return await _answer(self._ready)


async def _answer(checks: Mapping[str, Check]) -> web.Response:
    faults = await asyncio.gather(*(_fault(check) for check in checks.values()))
    lines = [f"[-] {name}: {fault}\n" if fault else f"[+] {name}\n" for name, fault in zip(checks, faults, strict=True)]
    return web.Response(text="".join(lines) or "ok\n", status=503 if any(faults) else 200)


async def _fault(check: Check) -> str:
    """What is wrong; empty where nothing is. A check that hangs is a fault too."""
    try:
        await asyncio.wait_for(check(), CHECK_SECONDS)
    except TimeoutError:
        return f"no answer within {CHECK_SECONDS:.0f} s"
    except errors.ProvisionerError as error:
        return str(error)
    except Exception as error:
        log.exception("a health check failed unexpectedly")
        return f"unexpected {type(error).__name__}; the log has the details"
    return ""


def parse_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port`, `[v6]:port` or `:port`.

    Raises:
        errors.InvalidRequestError: it has another form.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:  # noqa: PLR2004 the largest port
        raise errors.InvalidRequestError(f"{address!r} is not an address of the form host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)
