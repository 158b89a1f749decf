"""A client that leaves never leaves half a volume."""

import asyncio
from typing import Any

import grpc
import pytest
from grpc import aio

from provisioner.generated import csi_pb2
from tests.fakes import csi_messages, gate
from tests.unit.csi import conftest


def closed_gate(driver: conftest.Driver, step: str) -> gate.Gate:
    """Holds the backend at `step`."""
    closed = gate.Gate()
    driver.backend.on(step, closed.wait)
    return closed


def volumes(driver: conftest.Driver) -> int:
    return len(driver.backend.list(after=None, limit=10))


@pytest.mark.parametrize("step", ["create", "created"])
async def test_a_create_whose_client_cancels_is_finished_and_found_by_the_repeated_call(
    driver: conftest.Driver, step: str
) -> None:
    held = closed_gate(driver, step)
    call = driver.controller.CreateVolume(csi_messages.create())
    waiting = asyncio.ensure_future(_outcome(call))
    await held.reached()

    call.cancel()
    assert await waiting is grpc.StatusCode.CANCELLED
    held.open()
    reply = await _settled(driver)

    assert reply.volume.volume_id == str(driver.backend.list(after=None, limit=10)[0].id)
    assert volumes(driver) == 1


async def test_a_create_whose_deadline_passes_is_finished_and_found_by_the_repeated_call(
    driver: conftest.Driver,
) -> None:
    held = closed_gate(driver, "create")

    outcome = await _outcome(driver.controller.CreateVolume(csi_messages.create(), timeout=0.1))
    held.open()
    reply = await _settled(driver)

    assert outcome is grpc.StatusCode.DEADLINE_EXCEEDED
    assert (volumes(driver), bool(reply.volume.volume_id)) == (1, True)


async def test_a_repeated_create_is_aborted_while_the_first_is_still_at_work(driver: conftest.Driver) -> None:
    held = closed_gate(driver, "create")
    call = driver.controller.CreateVolume(csi_messages.create())
    waiting = asyncio.ensure_future(_outcome(call))
    await held.reached()
    call.cancel()
    await waiting

    with pytest.raises(aio.AioRpcError) as refused:
        await driver.controller.CreateVolume(csi_messages.create())
    held.open()

    assert refused.value.code() is grpc.StatusCode.ABORTED
    assert "creating volume pvc-1 is still running, since 0." in (refused.value.details() or "")


async def test_a_delete_whose_client_cancels_is_finished(driver: conftest.Driver) -> None:
    made = await driver.controller.CreateVolume(csi_messages.create())
    held = closed_gate(driver, "delete")
    call = driver.controller.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=made.volume.volume_id))
    waiting = asyncio.ensure_future(_outcome(call))
    await held.reached()

    call.cancel()
    await waiting
    held.open()
    await driver.service.close()

    assert volumes(driver) == 0


async def test_a_probe_is_answered_while_creates_are_under_way(driver: conftest.Driver) -> None:
    held = closed_gate(driver, "create")
    calls = [
        asyncio.ensure_future(driver.controller.CreateVolume(csi_messages.create(f"pvc-{number}")))
        for number in range(40)
    ]
    await held.reached()

    reply = await driver.identity.Probe(csi_pb2.ProbeRequest(), timeout=10)
    held.open()
    await asyncio.gather(*calls)

    assert reply.ready.value


async def test_a_server_that_stops_lets_calls_under_way_finish(driver: conftest.Driver) -> None:
    held = closed_gate(driver, "create")
    call = asyncio.ensure_future(driver.controller.CreateVolume(csi_messages.create()))
    await held.reached()

    stopping = asyncio.ensure_future(driver.server.stop(30))
    held.open()
    reply = await call
    await stopping

    assert reply.volume.volume_id


async def _outcome(call: aio.UnaryUnaryCall[Any, Any]) -> grpc.StatusCode:
    return await call.code()


async def _settled(driver: conftest.Driver) -> csi_pb2.CreateVolumeResponse:
    """Repeat the call as a provisioner does: until it is no longer told that the first is at work."""
    async with asyncio.timeout(gate.PATIENCE):
        while True:
            try:
                return await driver.controller.CreateVolume(csi_messages.create())
            except aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.ABORTED:
                    raise
                await asyncio.sleep(0.005)
