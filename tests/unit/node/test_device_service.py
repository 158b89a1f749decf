"""The device half as the event loop sees it: one change per volume at a time, looking beside it."""

import asyncio
import threading

import pytest

from provisioner import errors, model
from provisioner.csi import node as csi_node
from provisioner.node import device_service, device_volumes, requests
from tests.unit.node import device_host

host = device_host.host


async def test_a_volume_goes_the_whole_way(host: device_host.DeviceHost) -> None:
    service = device_service.DeviceNodeService(host.backend)
    volume, staged, pod = host.backend.make("vol"), host.kubelet / "staged", host.kubelet / "pod-1"
    await service.stage(host.stage(volume))
    await service.publish(host.publish(volume))
    assert (await service.usage(volume, pod)).total > 0
    assert not (await service.condition(volume, pod)).abnormal
    grown = requests.ExpandRequest(
        volume_id=volume, path=pod, staging=staged, size=model.SizeRange(32 << 20), capability=None
    )
    assert await service.expand(grown) == 32 << 20
    assert await service.topology() is None
    await service.unpublish(volume, pod)
    await service.unstage(volume, staged)
    await service.close()
    assert host.backend.device(volume) is None


async def test_a_second_call_for_a_volume_is_told_of_the_first(host: device_host.DeviceHost) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def wait(step: str) -> None:
        if step == "stage.attached":
            reached.set()
            go_on.wait(10)

    volumes = device_volumes.DeviceVolumes(host.backend, steps=wait)
    service = device_service.DeviceNodeService(host.backend, volumes=volumes)
    volume = host.backend.make("vol")
    first = asyncio.create_task(service.stage(host.stage(volume)))
    await asyncio.to_thread(reached.wait, 10)
    with pytest.raises(errors.OperationPendingError, match="staging volume vol at"):
        await service.unstage(volume, host.kubelet / "staged")
    go_on.set()
    await first
    await service.close()


def test_it_is_all_that_the_csi_service_asks_for() -> None:
    assert issubclass(device_service.DeviceNodeService, csi_node.DeviceService)
