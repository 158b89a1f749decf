"""The Node service over a real socket, in front of a service that mounts nothing."""

from pathlib import Path

import grpc
import pytest
from grpc import aio

from provisioner import errors, model
from provisioner.generated import csi_pb2
from provisioner.node import requests
from tests.fakes import csi_messages
from tests.unit.csi import conftest

TARGET = "/pods/1/mount"


async def test_publish_asks_for_the_volume_at_the_target(driver: conftest.Driver) -> None:
    await driver.node.NodePublishVolume(csi_messages.publish(target=TARGET))

    assert driver.node_service.published == {
        Path(TARGET): requests.PublishRequest(
            volume_id=model.VolumeId("vol-1"),
            target=Path(TARGET),
            capability=model.Capability(access_mode=model.AccessMode.SINGLE_NODE_WRITER),
        )
    }


async def test_unpublish_takes_the_volume_away_also_twice(driver: conftest.Driver) -> None:
    await driver.node.NodePublishVolume(csi_messages.publish(target=TARGET))
    request = csi_pb2.NodeUnpublishVolumeRequest(volume_id="vol-1", target_path=TARGET)

    await driver.node.NodeUnpublishVolume(request)
    await driver.node.NodeUnpublishVolume(request)

    assert driver.node_service.published == {}


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (errors.VolumeExistsError("other options"), grpc.StatusCode.ALREADY_EXISTS),
        (errors.VolumeInUseError("second target"), grpc.StatusCode.FAILED_PRECONDITION),
        (errors.VolumeNotFoundError("not here"), grpc.StatusCode.NOT_FOUND),
        (errors.OperationPendingError("publishing"), grpc.StatusCode.ABORTED),
        (OSError(5, "I/O error"), grpc.StatusCode.ABORTED),
    ],
)
async def test_a_failed_publish_has_the_code_that_the_kubelet_acts_on(
    driver: conftest.Driver, failure: Exception, code: grpc.StatusCode
) -> None:
    driver.node_service.failure = failure

    with pytest.raises(aio.AioRpcError) as refused:
        await driver.node.NodePublishVolume(csi_messages.publish())

    assert refused.value.code() is code


async def test_stats_tell_bytes_and_inodes(driver: conftest.Driver) -> None:
    await driver.node.NodePublishVolume(csi_messages.publish(target=TARGET))
    driver.node_service.used = model.Usage(
        total=100, used=40, available=60, inodes_total=10, inodes_used=3, inodes_available=7
    )

    reply = await driver.node.NodeGetVolumeStats(
        csi_pb2.NodeGetVolumeStatsRequest(volume_id="vol-1", volume_path=TARGET)
    )

    unit = csi_pb2.VolumeUsage
    assert list(reply.usage) == [
        unit(unit=unit.BYTES, total=100, used=40, available=60),
        unit(unit=unit.INODES, total=10, used=3, available=7),
    ]


async def test_stats_of_a_volume_without_an_inode_limit_tell_bytes_only(driver: conftest.Driver) -> None:
    await driver.node.NodePublishVolume(csi_messages.publish(target=TARGET))

    reply = await driver.node.NodeGetVolumeStats(
        csi_pb2.NodeGetVolumeStatsRequest(volume_id="vol-1", volume_path=TARGET)
    )

    assert [item.unit for item in reply.usage] == [csi_pb2.VolumeUsage.BYTES]


@pytest.mark.parametrize("path", ["/pods/elsewhere", "some/path"])
async def test_stats_where_the_volume_is_not_are_not_found(driver: conftest.Driver, path: str) -> None:
    with pytest.raises(aio.AioRpcError) as refused:
        await driver.node.NodeGetVolumeStats(csi_pb2.NodeGetVolumeStatsRequest(volume_id="vol-1", volume_path=path))

    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_the_node_tells_its_name_and_place(driver: conftest.Driver) -> None:
    reply = await driver.node.NodeGetInfo(csi_pb2.NodeGetInfoRequest())

    assert (reply.node_id, dict(reply.accessible_topology.segments), reply.max_volumes_per_node) == (
        "node-1",
        {"topology.test/node": "node-1"},
        0,
    )


async def test_the_capabilities_are_exactly_the_calls_that_work(driver: conftest.Driver) -> None:
    reply = await driver.node.NodeGetCapabilities(csi_pb2.NodeGetCapabilitiesRequest())

    kinds = csi_pb2.NodeServiceCapability.RPC
    assert {item.rpc.type for item in reply.capabilities} == {
        kinds.GET_VOLUME_STATS,
        kinds.SINGLE_NODE_MULTI_WRITER,
    }


async def test_a_device_is_staged_then_published_from_there_and_all_is_taken_back(full: conftest.Driver) -> None:
    message = csi_messages.publish(target=TARGET)
    message.staging_target_path = "/staging"
    await full.node.NodeStageVolume(csi_messages.stage("vol-1", "/staging"))
    await full.node.NodePublishVolume(message)

    assert full.node_service.staged[Path("/staging")].volume_id == model.VolumeId("vol-1")
    assert full.node_service.published[Path(TARGET)].staging == Path("/staging")

    await full.node.NodeUnpublishVolume(csi_pb2.NodeUnpublishVolumeRequest(volume_id="vol-1", target_path=TARGET))
    for _ in range(2):
        await full.node.NodeUnstageVolume(
            csi_pb2.NodeUnstageVolumeRequest(volume_id="vol-1", staging_target_path="/staging")
        )

    assert (full.node_service.published, full.node_service.staged) == ({}, {})


async def test_publish_of_a_device_that_was_not_staged_is_a_failed_precondition(full: conftest.Driver) -> None:
    with pytest.raises(aio.AioRpcError) as refused:
        await full.node.NodePublishVolume(csi_messages.publish())

    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_expand_tells_the_size_that_the_node_sees(full: conftest.Driver) -> None:
    reply = await full.node.NodeExpandVolume(
        csi_pb2.NodeExpandVolumeRequest(
            volume_id="vol-1", volume_path=TARGET, capacity_range=csi_pb2.CapacityRange(required_bytes=5 << 20)
        )
    )

    assert reply.capacity_bytes == 5 << 20
    assert [asked.path for asked in full.node_service.expanded] == [Path(TARGET)]


async def test_stats_tell_the_condition_where_it_is_announced(full: conftest.Driver) -> None:
    message = csi_messages.publish(target=TARGET)
    message.staging_target_path = "/staging"
    await full.node.NodePublishVolume(message)
    full.node_service.state = model.Condition(abnormal=True, message="the device's daemon is dead")

    reply = await full.node.NodeGetVolumeStats(csi_pb2.NodeGetVolumeStatsRequest(volume_id="vol-1", volume_path=TARGET))

    assert (reply.volume_condition.abnormal, reply.volume_condition.message) == (True, "the device's daemon is dead")


@pytest.mark.parametrize("abnormal", [True, False])
async def test_stats_of_a_broken_volume_tell_its_condition_though_nobody_can_look_into_it(
    full: conftest.Driver, abnormal: bool
) -> None:
    full.node_service.state = model.Condition(abnormal=abnormal, message="the device's daemon is dead")
    full.node_service.unusable = errors.BackendUnavailableError("Transport endpoint is not connected")
    call = full.node.NodeGetVolumeStats(csi_pb2.NodeGetVolumeStatsRequest(volume_id="vol-1", volume_path=TARGET))

    if abnormal:
        reply = await call
        assert (reply.volume_condition.message, len(reply.usage)) == ("the device's daemon is dead", 1)
    else:
        assert await conftest.refusal(call) is grpc.StatusCode.UNAVAILABLE


async def test_stats_tell_no_condition_where_none_is_announced(driver: conftest.Driver) -> None:
    await driver.node.NodePublishVolume(csi_messages.publish(target=TARGET))

    reply = await driver.node.NodeGetVolumeStats(
        csi_pb2.NodeGetVolumeStatsRequest(volume_id="vol-1", volume_path=TARGET)
    )

    assert not reply.HasField("volume_condition")


async def test_the_capabilities_of_devices_are_announced_where_there_are_devices(full: conftest.Driver) -> None:
    reply = await full.node.NodeGetCapabilities(csi_pb2.NodeGetCapabilitiesRequest())

    names = csi_pb2.NodeServiceCapability.RPC.Type
    assert {names.Name(item.rpc.type) for item in reply.capabilities} == {
        "STAGE_UNSTAGE_VOLUME",
        "EXPAND_VOLUME",
        "GET_VOLUME_STATS",
        "VOLUME_CONDITION",
        "SINGLE_NODE_MULTI_WRITER",
    }
