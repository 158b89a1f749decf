"""The watcher's CSI client, against our own services and against a stranger's driver."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
from grpc import aio

from provisioner import csiclient, errors, metrics, model
from provisioner.generated import csi_pb2, csi_pb2_grpc

SINGLE = model.Capability(access_mode=model.AccessMode.SINGLE_NODE_WRITER)
REQUEST = model.VolumeRequest(
    name="pvc-1",
    size=model.SizeRange(required=5),
    capabilities=(SINGLE,),
    parameters={"pool": "fast"},
    secrets={"password": "hunter2"},
)


class Stranger(csi_pb2_grpc.IdentityServicer, csi_pb2_grpc.ControllerServicer, csi_pb2_grpc.NodeServicer):
    """Somebody else's driver: as terse as the specification allows.

    Attributes:
        requests: what it was asked, in order.
        answers: what it replies, or how it behaves, by method; UNIMPLEMENTED where there is none.
    """

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.answers: dict[str, Any] = {"GetPluginInfo": csi_pb2.GetPluginInfoResponse(name="stranger.csi")}

    async def _serve(self, method: str, request: Any, context: Any) -> Any:
        self.requests.append(request)
        answer = self.answers.get(method)
        if answer is None:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "no")
        if isinstance(answer, grpc.StatusCode):
            await context.abort(answer, "the stranger's reason")
        return await answer(request) if callable(answer) else answer


def _handler(method: str) -> Callable[..., Any]:
    async def handle(self: Stranger, request: Any, context: Any) -> Any:
        return await self._serve(method, request, context)

    return handle


for _service in csi_pb2.DESCRIPTOR.services_by_name.values():
    for _method in _service.methods_by_name:
        setattr(Stranger, _method, _handler(_method))


@contextlib.asynccontextmanager
async def serving(stranger: Stranger, socket: Path) -> AsyncIterator[None]:
    server = aio.server()
    csi_pb2_grpc.add_IdentityServicer_to_server(stranger, server)
    csi_pb2_grpc.add_ControllerServicer_to_server(stranger, server)
    csi_pb2_grpc.add_NodeServicer_to_server(stranger, server)
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    try:
        yield
    finally:
        await server.stop(None)


@pytest.fixture
async def stranger(tmp_path: Path) -> AsyncIterator[Stranger]:
    driver = Stranger()
    async with serving(driver, tmp_path / "csi.sock"):
        yield driver


@pytest.fixture
def measured() -> metrics.Metrics:
    return metrics.Metrics()


@pytest.fixture
async def client(tmp_path: Path, measured: metrics.Metrics) -> AsyncIterator[csiclient.Client]:
    connected = csiclient.GrpcClient(f"unix://{tmp_path / 'csi.sock'}", measured=measured)
    yield connected
    await connected.close()


def plugin(*services: int) -> csi_pb2.GetPluginCapabilitiesResponse:
    kind = csi_pb2.PluginCapability
    return csi_pb2.GetPluginCapabilitiesResponse(
        capabilities=[
            kind(service=kind.Service(type=csi_pb2.PluginCapability.Service.Type.ValueType(number)))
            for number in services
        ]
    )


async def test_a_driver_is_described_by_the_names_of_its_capabilities(
    stranger: Stranger, client: csiclient.Client
) -> None:
    rpc = csi_pb2.ControllerServiceCapability
    stranger.answers["GetPluginInfo"] = csi_pb2.GetPluginInfoResponse(name="a.b", vendor_version="7")
    stranger.answers["GetPluginCapabilities"] = plugin(1, 2)
    stranger.answers["GetPluginCapabilities"].capabilities.add().volume_expansion.type = 1
    stranger.answers["ControllerGetCapabilities"] = csi_pb2.ControllerGetCapabilitiesResponse(
        capabilities=[rpc(rpc=rpc.RPC(type=rpc.RPC.CREATE_DELETE_VOLUME))]
    )

    driver = await client.describe(timeout=10)

    assert driver == csiclient.Driver(
        name="a.b",
        vendor_version="7",
        plugin_capabilities=frozenset({"CONTROLLER_SERVICE", "VOLUME_ACCESSIBILITY_CONSTRAINTS", "ONLINE"}),
        controller_capabilities=frozenset({"CREATE_DELETE_VOLUME"}),
    )
    assert driver.supports_topology


async def test_capabilities_of_a_later_specification_are_left_out(stranger: Stranger, client: csiclient.Client) -> None:
    later = csi_pb2.ControllerGetCapabilitiesResponse()
    later.capabilities.add().rpc.type = 99  # type: ignore[assignment]  # that is the point
    stranger.answers["GetPluginCapabilities"] = plugin(1, 99)
    stranger.answers["ControllerGetCapabilities"] = later

    driver = await client.describe(timeout=10)

    assert driver.plugin_capabilities == frozenset({"CONTROLLER_SERVICE"})
    assert driver.controller_capabilities == frozenset()


async def test_a_driver_without_a_controller_is_not_asked_for_its_capabilities(
    stranger: Stranger, client: csiclient.Client
) -> None:
    stranger.answers["GetPluginCapabilities"] = plugin()

    driver = await client.describe(timeout=10)

    assert driver.controller_capabilities == frozenset()
    assert not driver.supports_topology


@pytest.mark.parametrize(
    ("ready", "expected"), [(None, True), ({"value": True}, True), ({"value": False}, False), ({}, False)]
)
async def test_a_driver_is_ready_unless_it_says_that_it_is_not(
    stranger: Stranger, client: csiclient.Client, ready: dict[str, bool] | None, expected: bool
) -> None:
    reply = csi_pb2.ProbeResponse()
    if ready is not None:
        reply.ready.SetInParent()
        reply.ready.value = ready.get("value", False)
    stranger.answers["Probe"] = reply

    assert await client.probe(timeout=10) is expected


async def test_create_sends_everything_that_was_asked(stranger: Stranger, client: csiclient.Client) -> None:
    stranger.answers["CreateVolume"] = csi_pb2.CreateVolumeResponse(volume=csi_pb2.Volume(volume_id="v"))
    place = model.Topology.of({"zone": "a"})
    request = model.VolumeRequest(
        name="pvc-1",
        size=model.SizeRange(5, 9),
        capabilities=(
            model.Capability(
                access_mode=model.AccessMode.SINGLE_NODE_SINGLE_WRITER, fs_type="xfs", mount_flags=("noatime",)
            ),
            model.Capability(access_mode=model.AccessMode.MULTI_NODE_MULTI_WRITER, access_type=model.AccessType.BLOCK),
        ),
        parameters={"pool": "fast"},
        accessibility=model.Accessibility(requisite=(place,), preferred=(place,)),
        secrets={"password": "hunter2"},
    )

    await client.create_volume(request, timeout=10)

    kind, mode = csi_pb2.VolumeCapability, csi_pb2.VolumeCapability.AccessMode
    segment = csi_pb2.Topology(segments={"zone": "a"})
    assert stranger.requests == [
        csi_pb2.CreateVolumeRequest(
            name="pvc-1",
            capacity_range=csi_pb2.CapacityRange(required_bytes=5, limit_bytes=9),
            volume_capabilities=[
                kind(
                    mount=kind.MountVolume(fs_type="xfs", mount_flags=["noatime"]),
                    access_mode=mode(mode=mode.SINGLE_NODE_SINGLE_WRITER),
                ),
                kind(block=kind.BlockVolume(), access_mode=mode(mode=mode.MULTI_NODE_MULTI_WRITER)),
            ],
            parameters={"pool": "fast"},
            secrets={"password": "hunter2"},
            accessibility_requirements=csi_pb2.TopologyRequirement(requisite=[segment], preferred=[segment]),
        )
    ]


async def test_create_without_sizes_or_places_leaves_both_out(stranger: Stranger, client: csiclient.Client) -> None:
    stranger.answers["CreateVolume"] = csi_pb2.CreateVolumeResponse(volume=csi_pb2.Volume(volume_id="v"))

    await client.create_volume(
        model.VolumeRequest(name="pvc-1", size=model.SizeRange(), capabilities=(SINGLE,)), timeout=10
    )

    (sent,) = stranger.requests
    assert not sent.HasField("capacity_range")
    assert not sent.HasField("accessibility_requirements")


@pytest.mark.parametrize(
    ("source", "sent"),
    [
        (
            model.SnapshotId("snap-1"),
            csi_pb2.VolumeContentSource(snapshot=csi_pb2.VolumeContentSource.SnapshotSource(snapshot_id="snap-1")),
        ),
        (
            model.VolumeId("vol-1"),
            csi_pb2.VolumeContentSource(volume=csi_pb2.VolumeContentSource.VolumeSource(volume_id="vol-1")),
        ),
    ],
    ids=["snapshot", "volume"],
)
async def test_create_sends_the_source_and_reads_it_back(
    stranger: Stranger,
    client: csiclient.Client,
    source: model.SnapshotId | model.VolumeId,
    sent: csi_pb2.VolumeContentSource,
) -> None:
    stranger.answers["CreateVolume"] = csi_pb2.CreateVolumeResponse(
        volume=csi_pb2.Volume(volume_id="v", content_source=sent)
    )

    made = await client.create_volume(dataclasses.replace(REQUEST, source=source), timeout=10)

    assert stranger.requests[-1].volume_content_source == sent
    assert made.source == source


async def test_a_terse_answer_to_create_is_a_volume_of_unknown_size(
    stranger: Stranger, client: csiclient.Client
) -> None:
    stranger.answers["CreateVolume"] = csi_pb2.CreateVolumeResponse(
        volume=csi_pb2.Volume(volume_id="nfs.server#/export/path##")
    )

    made = await client.create_volume(REQUEST, timeout=10)

    assert made == model.Volume(id=model.VolumeId("nfs.server#/export/path##"), size=0)


async def test_a_full_answer_to_create_is_read_whole(stranger: Stranger, client: csiclient.Client) -> None:
    stranger.answers["CreateVolume"] = csi_pb2.CreateVolumeResponse(
        volume=csi_pb2.Volume(
            volume_id="v",
            capacity_bytes=9,
            volume_context={"k": "v"},
            accessible_topology=[csi_pb2.Topology(segments={"zone": "a"}), csi_pb2.Topology()],
        )
    )

    assert await client.create_volume(REQUEST, timeout=10) == model.Volume(
        id=model.VolumeId("v"),
        size=9,
        context={"k": "v"},
        topologies=(model.Topology.of({"zone": "a"}), model.Topology.of({})),
    )


async def test_an_answer_to_create_without_a_volume_is_an_error(stranger: Stranger, client: csiclient.Client) -> None:
    stranger.answers["CreateVolume"] = csi_pb2.CreateVolumeResponse()

    with pytest.raises(csiclient.CallError) as refused:
        await client.create_volume(REQUEST, timeout=10)

    assert refused.value.code is csiclient.Code.UNKNOWN


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
async def test_every_refusal_arrives_with_its_code_and_the_drivers_words(
    stranger: Stranger, client: csiclient.Client, code: grpc.StatusCode
) -> None:
    stranger.answers["CreateVolume"] = code

    with pytest.raises(csiclient.CallError) as refused:
        await client.create_volume(REQUEST, timeout=10)

    assert (refused.value.code, refused.value.message, refused.value.method) == (
        csiclient.Code[code.name],
        "the stranger's reason",
        "CreateVolume",
    )
    assert str(refused.value) == f"CreateVolume: {code.name}: the stranger's reason"


def test_the_codes_are_those_of_grpc() -> None:
    assert {code.name: code.value for code in csiclient.Code} == {code.name: code.value[0] for code in grpc.StatusCode}


async def test_a_driver_without_get_capacity_is_unimplemented(stranger: Stranger, client: csiclient.Client) -> None:
    with pytest.raises(csiclient.CallError) as refused:
        await client.get_capacity(parameters={}, capability=None, topology=None, timeout=10)

    assert refused.value.code is csiclient.Code.UNIMPLEMENTED


async def test_capacity_without_limits_is_one_volume_of_all_there_is(
    stranger: Stranger, client: csiclient.Client
) -> None:
    stranger.answers["GetCapacity"] = csi_pb2.GetCapacityResponse(available_capacity=100)

    room = await client.get_capacity(
        parameters={"pool": "fast"}, capability=SINGLE, topology=model.Topology.of({"zone": "a"}), timeout=10
    )

    kind = csi_pb2.VolumeCapability
    assert room == model.Available(total=100, largest=100)
    assert stranger.requests == [
        csi_pb2.GetCapacityRequest(
            parameters={"pool": "fast"},
            volume_capabilities=[
                kind(mount=kind.MountVolume(), access_mode=kind.AccessMode(mode=kind.AccessMode.SINGLE_NODE_WRITER))
            ],
            accessible_topology=csi_pb2.Topology(segments={"zone": "a"}),
        )
    ]


async def test_capacity_with_limits_keeps_them_also_where_they_are_nothing(
    stranger: Stranger, client: csiclient.Client
) -> None:
    reply = csi_pb2.GetCapacityResponse(available_capacity=100)
    reply.maximum_volume_size.SetInParent()
    reply.minimum_volume_size.value = 4
    stranger.answers["GetCapacity"] = reply

    room = await client.get_capacity(parameters={}, capability=None, topology=None, timeout=10)

    assert room == model.Available(total=100, largest=0, smallest=4)
    assert stranger.requests == [csi_pb2.GetCapacityRequest()]


async def test_a_listing_follows_the_tokens(stranger: Stranger, client: csiclient.Client) -> None:
    pages = {"": (["a", "b"], "t1"), "t1": ([], "t2"), "t2": (["c"], "")}

    async def page(request: csi_pb2.ListVolumesRequest) -> csi_pb2.ListVolumesResponse:
        ids, token = pages[request.starting_token]
        entry = csi_pb2.ListVolumesResponse.Entry
        return csi_pb2.ListVolumesResponse(
            entries=[entry(volume=csi_pb2.Volume(volume_id=item)) for item in ids], next_token=token
        )

    stranger.answers["ListVolumes"] = page

    listed = [str(volume.id) async for volume in client.list_volumes(page=2, timeout=10)]

    assert listed == ["a", "b", "c"]
    assert [request.max_entries for request in stranger.requests] == [2, 2, 2]


async def test_a_listing_that_turns_in_circles_ends_with_an_error(stranger: Stranger, client: csiclient.Client) -> None:
    stranger.answers["ListVolumes"] = csi_pb2.ListVolumesResponse(next_token="again")

    with pytest.raises(csiclient.CallError) as refused:
        [volume async for volume in client.list_volumes(page=0, timeout=10)]

    assert refused.value.code is csiclient.Code.UNKNOWN


async def test_delete_sends_the_id_and_the_secrets(stranger: Stranger, client: csiclient.Client) -> None:
    stranger.answers["DeleteVolume"] = csi_pb2.DeleteVolumeResponse()

    await client.delete_volume("v#1", {"password": "hunter2"}, timeout=10)

    assert stranger.requests == [csi_pb2.DeleteVolumeRequest(volume_id="v#1", secrets={"password": "hunter2"})]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (csi_pb2.NodeGetInfoResponse(node_id="n"), csiclient.NodeInfo(node_id="n")),
        (
            csi_pb2.NodeGetInfoResponse(
                node_id="n",
                max_volumes_per_node=5,
                accessible_topology=csi_pb2.Topology(segments={"zone": "a"}),
            ),
            csiclient.NodeInfo(node_id="n", topology=model.Topology.of({"zone": "a"}), max_volumes=5),
        ),
    ],
    ids=["terse", "full"],
)
async def test_a_node_tells_as_much_as_it_likes(
    stranger: Stranger,
    client: csiclient.Client,
    reply: csi_pb2.NodeGetInfoResponse,
    expected: csiclient.NodeInfo,
) -> None:
    stranger.answers["NodeGetInfo"] = reply

    assert await client.node_info(timeout=10) == expected


async def test_a_driver_that_does_not_answer_is_left_after_the_deadline(
    stranger: Stranger, client: csiclient.Client
) -> None:
    never = asyncio.Event()

    async def hang(request: csi_pb2.ProbeRequest) -> None:
        await never.wait()

    stranger.answers["Probe"] = hang

    with pytest.raises(csiclient.CallError) as refused:
        await client.probe(timeout=0.1)

    assert refused.value.code is csiclient.Code.DEADLINE_EXCEEDED


async def test_a_driver_that_is_not_there_is_unavailable(client: csiclient.Client) -> None:
    with pytest.raises(csiclient.CallError) as refused:
        await client.probe(timeout=10)

    assert refused.value.code is csiclient.Code.UNAVAILABLE


async def test_a_restarted_driver_is_found_again_within_seconds(client: csiclient.Client, tmp_path: Path) -> None:
    driver = Stranger()
    driver.answers["Probe"] = csi_pb2.ProbeResponse()
    async with serving(driver, tmp_path / "csi.sock"):
        assert await client.probe(timeout=10)
    with pytest.raises(csiclient.CallError):
        await client.probe(timeout=10)

    async with serving(driver, tmp_path / "csi.sock"), asyncio.timeout(10):
        await _until_ready(client)

    assert len(driver.requests) == 2


async def test_a_caller_that_is_cancelled_stays_cancelled(stranger: Stranger, client: csiclient.Client) -> None:
    reached, never = asyncio.Event(), asyncio.Event()

    async def hang(request: csi_pb2.ProbeRequest) -> None:
        reached.set()
        await never.wait()

    stranger.answers["Probe"] = hang
    call = asyncio.ensure_future(client.probe(timeout=30))
    await reached.wait()
    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call


async def test_a_call_under_way_ends_as_cancelled_when_the_client_is_closed(
    stranger: Stranger, client: csiclient.Client
) -> None:
    reached, never = asyncio.Event(), asyncio.Event()

    async def hang(request: csi_pb2.ProbeRequest) -> None:
        reached.set()
        await never.wait()

    stranger.answers["Probe"] = hang
    call = asyncio.ensure_future(client.probe(timeout=30))
    await reached.wait()
    await client.close()

    with pytest.raises(csiclient.CallError) as ended:
        await call

    assert ended.value.code is csiclient.Code.CANCELLED


async def test_calls_are_measured_under_the_stock_sidecars_names(
    stranger: Stranger, client: csiclient.Client, measured: metrics.Metrics
) -> None:
    stranger.answers["GetPluginCapabilities"] = plugin()
    stranger.answers["CreateVolume"] = grpc.StatusCode.RESOURCE_EXHAUSTED
    await client.describe(timeout=10)
    with pytest.raises(csiclient.CallError):
        await client.create_volume(REQUEST, timeout=10)

    def count(method: str, code: str) -> float | None:
        return measured.registry.get_sample_value(
            "csi_sidecar_operations_seconds_count",
            {"driver_name": "stranger.csi", "method_name": f"/csi.v1.{method}", "grpc_status_code": code},
        )

    assert count("Identity/GetPluginCapabilities", "OK") == 1
    assert count("Controller/CreateVolume", "ResourceExhausted") == 1


async def test_no_secret_is_logged(stranger: Stranger, client: csiclient.Client) -> None:
    stranger.answers["CreateVolume"] = grpc.StatusCode.INTERNAL
    with structlog.testing.capture_logs() as log, pytest.raises(csiclient.CallError):
        await client.create_volume(REQUEST, timeout=10)

    assert [entry["method"] for entry in log] == ["Controller/CreateVolume"]
    assert "hunter2" not in str(log)


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:1", "csi.sock", "unix:csi.sock", ""])
def test_an_endpoint_that_is_no_unix_socket_is_refused(endpoint: str) -> None:
    with pytest.raises(errors.InvalidRequestError, match=r"unix:///path/to/csi\.sock"):
        csiclient.GrpcClient(endpoint, measured=metrics.Metrics())


async def _until_ready(client: csiclient.Client) -> None:
    while True:
        with contextlib.suppress(csiclient.CallError):
            if await client.probe(timeout=10):
                return
        await asyncio.sleep(0.01)
