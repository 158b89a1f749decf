"""The Identity service over a real socket."""

import grpc
import pytest
from grpc import aio

from provisioner import errors
from provisioner.backends import base
from provisioner.csi import capabilities
from provisioner.generated import csi_pb2
from tests.fakes import gate
from tests.unit.csi import conftest

_Service = csi_pb2.PluginCapability.Service


async def test_the_plugin_tells_its_name_and_version(driver: conftest.Driver) -> None:
    reply = await driver.identity.GetPluginInfo(csi_pb2.GetPluginInfoRequest())

    assert (reply.name, reply.vendor_version) == ("directory.csi.test", "1.2.3")


async def test_the_plugin_offers_a_controller_and_says_that_places_matter(driver: conftest.Driver) -> None:
    reply = await driver.identity.GetPluginCapabilities(csi_pb2.GetPluginCapabilitiesRequest())

    assert {item.service.type for item in reply.capabilities} == {
        _Service.CONTROLLER_SERVICE,
        _Service.VOLUME_ACCESSIBILITY_CONSTRAINTS,
    }


def test_a_node_process_with_a_shared_pool_offers_neither() -> None:
    assert not capabilities.plugin(base.Features(), controller=False).capabilities


def test_a_backend_whose_volumes_grow_says_that_they_do_in_use() -> None:
    reply = capabilities.plugin(base.Features(expansion=True), controller=False)

    assert [item.volume_expansion.type for item in reply.capabilities] == [
        csi_pb2.PluginCapability.VolumeExpansion.ONLINE
    ]


async def test_a_probe_of_working_storage_is_ready(driver: conftest.Driver) -> None:
    reply = await driver.identity.Probe(csi_pb2.ProbeRequest())

    assert reply.ready.value
    assert driver.backend.calls["probe"] == 1


async def test_a_probe_of_broken_storage_is_a_failed_precondition_that_says_why(driver: conftest.Driver) -> None:
    driver.backend.fail("probe", errors.BackendUnavailableError("the pool is not mounted"))

    with pytest.raises(aio.AioRpcError) as refused:
        await driver.identity.Probe(csi_pb2.ProbeRequest())

    assert (refused.value.code(), refused.value.details()) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "the pool is not mounted",
    )


async def test_a_probe_is_ready_again_as_soon_as_the_storage_is(driver: conftest.Driver) -> None:
    driver.backend.fail("probe", errors.BackendUnavailableError("the pool is not mounted"))
    with pytest.raises(aio.AioRpcError):
        await driver.identity.Probe(csi_pb2.ProbeRequest())
    driver.backend.mend("probe")

    assert (await driver.identity.Probe(csi_pb2.ProbeRequest())).ready.value


async def test_a_probe_of_hanging_storage_is_answered_in_time(driver: conftest.Driver) -> None:
    hang = gate.Gate()
    driver.backend.on("probe", hang.wait)
    try:
        with pytest.raises(aio.AioRpcError) as refused:
            await driver.identity.Probe(csi_pb2.ProbeRequest(), timeout=10)
    finally:
        hang.open()

    assert (refused.value.code(), refused.value.details()) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "the storage did not answer within 0.2 s; look for a hanging disk or network file system",
    )
