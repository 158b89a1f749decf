"""The Controller service over a real socket."""

import dataclasses
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import grpc
import pytest
from grpc import aio

from provisioner import errors, model
from provisioner.backends import base
from provisioner.generated import csi_pb2
from tests.fakes import csi_messages, memory_backend
from tests.unit.csi import conftest


async def test_create_returns_the_volume_with_its_size_and_place(driver: conftest.Driver) -> None:
    reply = await driver.controller.CreateVolume(csi_messages.create(size=5 << 20))

    assert reply.volume.capacity_bytes == 5 << 20
    assert [dict(place.segments) for place in reply.volume.accessible_topology] == [{"topology.test/node": "node-1"}]
    assert not reply.volume.HasField("content_source")


async def test_create_again_with_the_same_arguments_returns_the_same_volume(driver: conftest.Driver) -> None:
    first = await driver.controller.CreateVolume(csi_messages.create())

    assert await driver.controller.CreateVolume(csi_messages.create()) == first


async def test_delete_of_a_volume_that_is_gone_succeeds(driver: conftest.Driver) -> None:
    made = await driver.controller.CreateVolume(csi_messages.create())
    request = csi_pb2.DeleteVolumeRequest(volume_id=made.volume.volume_id)
    await driver.controller.DeleteVolume(request)

    await driver.controller.DeleteVolume(request)

    assert [found async for found in _ids(driver)] == []


async def test_delete_of_a_volume_in_use_is_a_failed_precondition(driver: conftest.Driver) -> None:
    made = await driver.controller.CreateVolume(csi_messages.create())
    driver.backend.in_use.add(model.VolumeId(made.volume.volume_id))

    with pytest.raises(aio.AioRpcError) as refused:
        await driver.controller.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=made.volume.volume_id))

    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_validation_confirms_what_the_volume_can_do(driver: conftest.Driver) -> None:
    made = await driver.controller.CreateVolume(csi_messages.create())

    reply = await driver.controller.ValidateVolumeCapabilities(
        csi_pb2.ValidateVolumeCapabilitiesRequest(
            volume_id=made.volume.volume_id, volume_capabilities=[csi_messages.capability()]
        )
    )

    assert list(reply.confirmed.volume_capabilities) == [csi_messages.capability()]


@pytest.mark.parametrize(
    ("capability", "mutable"),
    [
        (csi_messages.capability("MULTI_NODE_MULTI_WRITER"), {}),
        (csi_messages.capability(block=True), {}),
        (csi_messages.capability(), {"iops": "100"}),
    ],
    ids=["mode", "block", "mutable parameters"],
)
async def test_validation_says_why_a_volume_cannot_be_used_so(
    driver: conftest.Driver, capability: csi_pb2.VolumeCapability, mutable: dict[str, str]
) -> None:
    made = await driver.controller.CreateVolume(csi_messages.create())

    reply = await driver.controller.ValidateVolumeCapabilities(
        csi_pb2.ValidateVolumeCapabilitiesRequest(
            volume_id=made.volume.volume_id, volume_capabilities=[capability], mutable_parameters=mutable
        )
    )

    assert (reply.HasField("confirmed"), bool(reply.message)) == (False, True)


async def test_a_listing_in_pages_finds_each_volume_once(driver: conftest.Driver) -> None:
    made = {
        (await driver.controller.CreateVolume(csi_messages.create(f"pvc-{number}"))).volume.volume_id
        for number in range(5)
    }

    listed = [entry async for entry in _ids(driver, page=2)]

    assert sorted(listed) == sorted(made)


async def test_a_page_that_ends_with_the_last_volume_has_no_token(driver: conftest.Driver) -> None:
    for number in range(2):
        await driver.controller.CreateVolume(csi_messages.create(f"pvc-{number}"))

    reply = await driver.controller.ListVolumes(csi_pb2.ListVolumesRequest(max_entries=2))

    assert (len(reply.entries), reply.next_token) == (2, "")


async def test_a_listing_goes_on_when_the_volume_of_its_token_is_gone(driver: conftest.Driver) -> None:
    for number in range(4):
        await driver.controller.CreateVolume(csi_messages.create(f"pvc-{number}"))
    first = await driver.controller.ListVolumes(csi_pb2.ListVolumesRequest(max_entries=2))
    for entry in first.entries:
        await driver.controller.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=entry.volume.volume_id))

    second = await driver.controller.ListVolumes(csi_pb2.ListVolumesRequest(starting_token=first.next_token))

    remaining = [found async for found in _ids(driver)]
    assert [entry.volume.volume_id for entry in second.entries] == remaining
    assert len(remaining) == 2


@pytest.mark.parametrize("token", ["invalid-token", ">", ">../..", "7"])
async def test_a_listing_from_a_token_that_is_not_ours_is_aborted(driver: conftest.Driver, token: str) -> None:
    with pytest.raises(aio.AioRpcError) as refused:
        await driver.controller.ListVolumes(csi_pb2.ListVolumesRequest(starting_token=token))

    assert refused.value.code() is grpc.StatusCode.ABORTED


async def test_capacity_tells_the_room_and_the_largest_and_smallest_volume(driver: conftest.Driver) -> None:
    await driver.controller.CreateVolume(csi_messages.create(size=1 << 30))

    reply = await driver.controller.GetCapacity(csi_pb2.GetCapacityRequest())

    room = 99 << 30
    assert reply.available_capacity == room
    assert reply.maximum_volume_size.value == room
    assert reply.minimum_volume_size.value == 1


async def test_capacity_of_a_place_that_is_not_ours_is_nothing(driver: conftest.Driver) -> None:
    elsewhere = csi_pb2.Topology(segments={"topology.test/node": "node-2"})

    reply = await driver.controller.GetCapacity(csi_pb2.GetCapacityRequest(accessible_topology=elsewhere))

    assert reply.available_capacity == 0


async def test_one_volume_can_be_asked_for_by_its_id(driver: conftest.Driver) -> None:
    made = await driver.controller.CreateVolume(csi_messages.create())

    reply = await driver.controller.ControllerGetVolume(
        csi_pb2.ControllerGetVolumeRequest(volume_id=made.volume.volume_id)
    )

    assert reply.volume == made.volume
    assert reply.HasField("status")


async def test_a_quarantined_volume_is_unavailable_and_the_others_are_not(driver: conftest.Driver) -> None:
    bad = (await driver.controller.CreateVolume(csi_messages.create("pvc-bad"))).volume.volume_id
    good = (await driver.controller.CreateVolume(csi_messages.create("pvc-good"))).volume.volume_id
    driver.backend.quarantined.add(model.VolumeId(bad))

    with pytest.raises(aio.AioRpcError) as refused:
        await driver.controller.ControllerGetVolume(csi_pb2.ControllerGetVolumeRequest(volume_id=bad))

    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert [found async for found in _ids(driver)] == [good]


async def test_the_capabilities_are_exactly_the_calls_that_work(driver: conftest.Driver) -> None:
    reply = await driver.controller.ControllerGetCapabilities(csi_pb2.ControllerGetCapabilitiesRequest())

    names = csi_pb2.ControllerServiceCapability.RPC.Type
    assert {names.Name(item.rpc.type) for item in reply.capabilities} == {
        "CREATE_DELETE_VOLUME",
        "LIST_VOLUMES",
        "GET_VOLUME",
        "GET_CAPACITY",
        "SINGLE_NODE_MULTI_WRITER",
    }


async def test_a_backend_that_cannot_count_neither_announces_nor_serves_capacity(tmp_path: Path) -> None:
    class Blind(memory_backend.MemoryBackend):
        @property
        def features(self) -> base.Features:
            return base.Features()

    async with conftest.serving(tmp_path, Blind()) as driver:
        reply = await driver.controller.ControllerGetCapabilities(csi_pb2.ControllerGetCapabilitiesRequest())
        with pytest.raises(aio.AioRpcError) as refused:
            await driver.controller.GetCapacity(csi_pb2.GetCapacityRequest())

    kinds = csi_pb2.ControllerServiceCapability.RPC
    assert {item.rpc.type for item in reply.capabilities} == {
        kinds.CREATE_DELETE_VOLUME,
        kinds.LIST_VOLUMES,
        kinds.GET_VOLUME,
    }
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_call_that_is_not_announced_is_unimplemented(driver: conftest.Driver) -> None:
    calls: list[Awaitable[object]] = [
        driver.controller.CreateSnapshot(csi_pb2.CreateSnapshotRequest()),
        driver.controller.DeleteSnapshot(csi_pb2.DeleteSnapshotRequest()),
        driver.controller.GetSnapshot(csi_pb2.GetSnapshotRequest()),
        driver.controller.ListSnapshots(csi_pb2.ListSnapshotsRequest()),
        driver.controller.ControllerExpandVolume(csi_pb2.ControllerExpandVolumeRequest()),
        driver.controller.ControllerPublishVolume(csi_pb2.ControllerPublishVolumeRequest()),
        driver.controller.ControllerUnpublishVolume(csi_pb2.ControllerUnpublishVolumeRequest()),
        driver.controller.ControllerModifyVolume(csi_pb2.ControllerModifyVolumeRequest()),
        driver.node.NodeStageVolume(csi_pb2.NodeStageVolumeRequest()),
        driver.node.NodeUnstageVolume(csi_pb2.NodeUnstageVolumeRequest()),
        driver.node.NodeExpandVolume(csi_pb2.NodeExpandVolumeRequest()),
    ]
    codes = []
    for call in calls:
        with pytest.raises(aio.AioRpcError) as refused:
            await call
        codes.append(refused.value.code())

    assert set(codes) == {grpc.StatusCode.UNIMPLEMENTED}


async def test_a_backend_that_offers_everything_announces_it(full: conftest.Driver) -> None:
    reply = await full.controller.ControllerGetCapabilities(csi_pb2.ControllerGetCapabilitiesRequest())

    names = csi_pb2.ControllerServiceCapability.RPC.Type
    assert {names.Name(item.rpc.type) for item in reply.capabilities} == {
        "CREATE_DELETE_VOLUME",
        "LIST_VOLUMES",
        "GET_VOLUME",
        "GET_CAPACITY",
        "EXPAND_VOLUME",
        "CREATE_DELETE_SNAPSHOT",
        "LIST_SNAPSHOTS",
        "GET_SNAPSHOT",
        "CLONE_VOLUME",
        "PUBLISH_UNPUBLISH_VOLUME",
        "PUBLISH_READONLY",
        "VOLUME_CONDITION",
        "SINGLE_NODE_MULTI_WRITER",
    }


@pytest.mark.parametrize(("devices", "on_the_node"), [(True, True), (False, False)])
async def test_an_expanded_volume_grows_on_its_node_too_where_it_is_a_device(
    tmp_path: Path, devices: bool, on_the_node: bool
) -> None:
    features = dataclasses.replace(memory_backend.FULL, devices=devices)
    async with conftest.serving(tmp_path, memory_backend.MemoryBackend(features=features)) as driver:
        volume_id = await _made(driver)
        reply = await driver.controller.ControllerExpandVolume(csi_messages.expand(volume_id, size=3 << 20))

    assert (reply.capacity_bytes, reply.node_expansion_required) == (3 << 20, on_the_node)


async def test_an_expansion_to_less_leaves_the_volume_as_it_is(full: conftest.Driver) -> None:
    volume_id = await _made(full)

    reply = await full.controller.ControllerExpandVolume(csi_messages.expand(volume_id, size=1))

    assert reply.capacity_bytes == 1 << 20


async def test_an_expansion_that_cannot_be_is_out_of_range(full: conftest.Driver) -> None:
    volume_id = await _made(full)
    shrinking = csi_pb2.ControllerExpandVolumeRequest(
        volume_id=volume_id, capacity_range=csi_pb2.CapacityRange(limit_bytes=5)
    )

    assert await conftest.refusal(full.controller.ControllerExpandVolume(shrinking)) is grpc.StatusCode.OUT_OF_RANGE
    vast = csi_messages.expand(volume_id, size=1 << 62)
    assert await conftest.refusal(full.controller.ControllerExpandVolume(vast)) is grpc.StatusCode.OUT_OF_RANGE


async def test_a_volume_is_given_to_a_node_and_taken_back_also_twice(full: conftest.Driver) -> None:
    volume_id = await _made(full)

    for _ in range(2):
        reply = await full.controller.ControllerPublishVolume(csi_messages.attach(volume_id, "node-1"))
        assert dict(reply.publish_context) == {"node": "node-1"}
    for _ in range(2):
        await full.controller.ControllerUnpublishVolume(
            csi_pb2.ControllerUnpublishVolumeRequest(volume_id=volume_id, node_id="node-1")
        )

    assert (await full.controller.ControllerPublishVolume(csi_messages.attach(volume_id, "node-2"))).publish_context


async def test_a_publication_that_cannot_be_has_the_code_that_the_attacher_acts_on(full: conftest.Driver) -> None:
    volume_id = await _made(full)
    await full.controller.ControllerPublishVolume(csi_messages.attach(volume_id, "node-1"))
    read_only = csi_messages.attach(volume_id, "node-1")
    read_only.readonly = True
    publish = full.controller.ControllerPublishVolume

    assert await conftest.refusal(publish(read_only)) is grpc.StatusCode.ALREADY_EXISTS
    assert (
        await conftest.refusal(publish(csi_messages.attach(volume_id, "node-2"))) is grpc.StatusCode.FAILED_PRECONDITION
    )
    assert await conftest.refusal(publish(csi_messages.attach(volume_id, "node-9"))) is grpc.StatusCode.NOT_FOUND
    assert await conftest.refusal(publish(csi_messages.attach("no-such-volume"))) is grpc.StatusCode.NOT_FOUND


async def test_a_volume_in_bad_condition_says_so_where_it_is_described_and_listed(full: conftest.Driver) -> None:
    volume_id, other = await _made(full, "pvc-1"), await _made(full, "pvc-2")
    full.backend.ill[model.VolumeId(volume_id)] = model.Condition(abnormal=True, message="its watcher was lost")

    described = await full.controller.ControllerGetVolume(csi_pb2.ControllerGetVolumeRequest(volume_id=volume_id))
    listed = await full.controller.ListVolumes(csi_pb2.ListVolumesRequest())

    assert described.status.volume_condition == csi_pb2.VolumeCondition(abnormal=True, message="its watcher was lost")
    assert {entry.volume.volume_id: entry.status.volume_condition.abnormal for entry in listed.entries} == {
        volume_id: True,
        other: False,
    }
    assert all(entry.status.HasField("volume_condition") for entry in listed.entries)


async def test_a_volume_whose_condition_cannot_be_found_out_is_in_none_that_is_good(full: conftest.Driver) -> None:
    volume_id = await _made(full)
    full.backend.fail("condition", errors.BackendUnavailableError("the monitors do not answer"))

    described = await full.controller.ControllerGetVolume(csi_pb2.ControllerGetVolumeRequest(volume_id=volume_id))
    listed = await full.controller.ListVolumes(csi_pb2.ListVolumesRequest())

    unknown = csi_pb2.VolumeCondition(abnormal=True, message="the monitors do not answer")
    assert described.status.volume_condition == unknown
    assert [entry.status.volume_condition for entry in listed.entries] == [unknown]


async def test_a_volume_that_goes_while_it_is_listed_is_left_out_and_the_listing_goes_on(full: conftest.Driver) -> None:
    for number in range(3):
        await _made(full, f"pvc-{number}")
    gone, stays = [volume.id for volume in full.backend.list(after=None, limit=2)]
    full.backend.on("condition", lambda: full.backend.delete(gone))

    page = await full.controller.ListVolumes(csi_pb2.ListVolumesRequest(max_entries=2))

    assert [entry.volume.volume_id for entry in page.entries] == [str(stays)]
    assert page.next_token


async def test_a_full_pool_is_resource_exhausted_with_the_backends_own_words(driver: conftest.Driver) -> None:
    driver.backend.fail("create", errors.InsufficientCapacityError("no room", remedy="add a disk"))

    with pytest.raises(aio.AioRpcError) as refused:
        await driver.controller.CreateVolume(csi_messages.create())

    assert (refused.value.code(), refused.value.details()) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "no room; add a disk",
    )


async def _ids(driver: conftest.Driver, *, page: int = 0) -> AsyncIterator[str]:
    token = ""
    while True:
        reply = await driver.controller.ListVolumes(csi_pb2.ListVolumesRequest(max_entries=page, starting_token=token))
        for entry in reply.entries:
            yield entry.volume.volume_id
        token = reply.next_token
        if not token:
            return


async def _made(
    driver: conftest.Driver, name: str = "pvc-1", *, source: csi_pb2.VolumeContentSource | None = None
) -> str:
    return (await driver.controller.CreateVolume(csi_messages.create(name, source=source))).volume.volume_id
