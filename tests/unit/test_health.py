"""The HTTP face: metrics, liveness, readiness."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import prometheus_client
import pytest

from provisioner import errors, health


@pytest.fixture
async def server() -> AsyncIterator[health.HealthServer]:
    registry = prometheus_client.CollectorRegistry()
    prometheus_client.Counter("kettles", "Kettles boiled.", registry=registry).inc()
    server = health.HealthServer("127.0.0.1:0", registry)
    await server.start()
    yield server
    await server.stop()


async def get(server: health.HealthServer, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{server.port}{path}") as response:
        return response.status, await response.text()


async def fine() -> None:
    pass


async def unmounted() -> None:
    raise errors.BackendUnavailableError("the disk is not mounted", remedy="mount it")


async def test_metrics_are_those_of_the_registry(server: health.HealthServer) -> None:
    status, body = await get(server, "/metrics")
    assert status == 200
    assert "kettles_total 1.0" in body


async def test_a_process_is_ready_when_every_check_is_well(server: health.HealthServer) -> None:
    server.add_ready("pool", fine)
    assert await get(server, "/readyz") == (200, "[+] pool\n")


async def test_a_process_that_is_not_ready_says_which_check_failed_and_what_to_do(server: health.HealthServer) -> None:
    server.add_ready("pool", unmounted)
    server.add_ready("kubelet", fine)
    assert await get(server, "/readyz") == (503, "[-] pool: the disk is not mounted; mount it\n[+] kubelet\n")


async def test_what_a_restart_cannot_mend_does_not_fail_liveness(server: health.HealthServer) -> None:
    server.add_ready("pool", unmounted)
    assert await get(server, "/healthz") == (200, "ok\n")


async def test_a_check_that_hangs_is_a_fault_and_not_a_hanging_probe(
    server: health.HealthServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "CHECK_SECONDS", 0.01)
    server.add_ready("pool", asyncio.Event().wait)  # type: ignore[arg-type]
    assert await get(server, "/readyz") == (503, "[-] pool: no answer within 0 s\n")


async def test_an_address_that_is_taken_is_a_readable_error(server: health.HealthServer) -> None:
    second = health.HealthServer(f"127.0.0.1:{server.port}", prometheus_client.CollectorRegistry())
    with pytest.raises(errors.BackendUnavailableError, match="choose another --metrics-address"):
        await second.start()


@pytest.mark.parametrize(
    ("address", "expected"), [(":9810", ("", 9810)), ("127.0.0.1:80", ("127.0.0.1", 80)), ("[::1]:80", ("::1", 80))]
)
def test_addresses_are_host_and_port(address: str, expected: tuple[str, int]) -> None:
    assert health.parse_address(address) == expected


@pytest.mark.parametrize("address", ["", "9810", "host:", "host:http", "host:70000"])
def test_an_address_of_another_form_is_refused(address: str) -> None:
    with pytest.raises(errors.InvalidRequestError, match="host:port"):
        health.parse_address(address)
