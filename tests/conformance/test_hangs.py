"""Ceph stops answering in the middle of a call: the caller can read what hangs, and nothing is made twice or lost."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import pytest
from grpc import aio

from provisioner.generated import csi_pb2, csi_pb2_grpc
from tests.conformance import conftest
from tests.fakes import csi_messages
from tests.harness import ceph

_PATIENCE = 60.0
_IMPATIENT = 1.5


class Fragile:
    """The driver, and the cluster that it is on."""

    def __init__(self, cluster: ceph.CephCluster, channel: aio.Channel) -> None:
        self.cluster = cluster
        self.controller = csi_pb2_grpc.ControllerStub(channel)
        self.identity = csi_pb2_grpc.IdentityStub(channel)

    def images(self) -> list[str]:
        """The names of the pool's images, as `rbd` tells them."""
        return self.cluster.rbd("ls", ceph.POOL).split()


@pytest.fixture
async def driven(fragile: tuple[ceph.CephCluster, conftest.Driver]) -> AsyncIterator[Fragile]:
    cluster, driver = fragile
    async with aio.insecure_channel(f"unix://{driver.socket}") as channel:
        yield Fragile(cluster, channel)


def _create(name: str) -> csi_pb2.CreateVolumeRequest:
    request = csi_messages.create(name)
    request.parameters["pool"] = ceph.POOL
    return request


async def _refused(call: Awaitable[object]) -> aio.AioRpcError:
    with pytest.raises(aio.AioRpcError) as refused:
        await call
    return refused.value


async def _until_it_ends(call: Callable[[], Awaitable[object]]) -> None:
    """Repeat the call as a sidecar does, until it succeeds."""
    async with asyncio.timeout(_PATIENCE):
        while True:
            try:
                await call()
            except aio.AioRpcError as error:
                if error.code() not in {grpc.StatusCode.ABORTED, grpc.StatusCode.UNAVAILABLE}:
                    raise
                await asyncio.sleep(0.2)
            else:
                return


async def test_a_create_that_hangs_says_at_which_step_and_ends_with_one_image(driven: Fragile) -> None:
    await driven.controller.CreateVolume(_create("first"))
    with driven.cluster.frozen("osd.0"):
        late = await _refused(driven.controller.CreateVolume(_create("second"), timeout=_IMPATIENT))
        again = await _refused(driven.controller.CreateVolume(_create("second"), timeout=_IMPATIENT))
        info = await driven.identity.GetPluginInfo(csi_pb2.GetPluginInfoRequest(), timeout=_IMPATIENT)

    assert late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert again.code() is grpc.StatusCode.ABORTED
    told = again.details() or ""
    assert told.startswith("creating volume second is still running, since "), told
    assert " s ago: " in told, told
    assert " has taken " in told, told
    assert info.name
    await _until_it_ends(lambda: driven.controller.CreateVolume(_create("second")))
    assert len(driven.images()) == 2


async def test_a_snapshot_that_hangs_says_at_which_step_and_is_taken_once(driven: Fragile) -> None:
    volume = (await driven.controller.CreateVolume(_create("source"))).volume
    request = csi_messages.snapshot(volume.volume_id)
    with driven.cluster.frozen("mon.a"):
        late = await _refused(driven.controller.CreateSnapshot(request, timeout=_IMPATIENT))
        again = await _refused(driven.controller.CreateSnapshot(request, timeout=_IMPATIENT))

    assert late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert again.code() is grpc.StatusCode.ABORTED
    assert " has taken " in (again.details() or "")
    await _until_it_ends(lambda: driven.controller.CreateSnapshot(request))
    listed = await driven.controller.ListSnapshots(csi_pb2.ListSnapshotsRequest(source_volume_id=volume.volume_id))
    assert len(listed.entries) == 1
    assert len(driven.cluster.rbd("snap", "ls", f"{ceph.POOL}/{driven.images()[0]}").splitlines()) == 2


async def test_a_delete_that_hangs_is_done_when_ceph_answers_again(driven: Fragile) -> None:
    volume = (await driven.controller.CreateVolume(_create("short-lived"))).volume
    request = csi_pb2.DeleteVolumeRequest(volume_id=volume.volume_id)
    with driven.cluster.frozen("osd.0"):
        late = await _refused(driven.controller.DeleteVolume(request, timeout=_IMPATIENT))

    assert late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await _until_it_ends(lambda: driven.controller.DeleteVolume(request))
    await driven.controller.DeleteVolume(request)
    assert driven.images() == []
    assert len(driven.cluster.rbd("trash", "ls", ceph.POOL).splitlines()) == 1
