"""The node service: one call per volume at a time, which outlives an impatient caller."""

import asyncio
from pathlib import Path

import pytest

from provisioner import errors, model
from provisioner.node import mountinfo, requests, service
from tests.fakes import gate, memory_backend, mounts
from tests.fakes.directory_pools import RWO, request


async def test_a_publish_is_finished_though_its_caller_left_and_others_are_told(tmp_path: Path) -> None:
    mounts.enter_private_namespace()
    (tmp_path / "data").mkdir()
    backend, held = memory_backend.MemoryBackend(data=tmp_path / "data"), gate.Gate()
    volume = backend.create(request()).id
    backend.on("locate", held.wait)
    node = service.NodeService(backend)
    asked = requests.PublishRequest(volume_id=volume, target=tmp_path / "pod", capability=RWO)
    impatient = asyncio.create_task(node.publish(asked))
    await held.reached()
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    with pytest.raises(errors.OperationPendingError, match="publishing volume"):
        await node.unpublish(volume, tmp_path / "pod")
    held.open()
    await node.close()
    assert len(mountinfo.mounts_at(tmp_path / "pod")) == 1
    again = service.NodeService(backend)
    assert (await again.usage(volume, tmp_path / "pod")).total == model.MIB
    await again.unpublish(volume, tmp_path / "pod")
    await again.close()
    assert not (tmp_path / "pod").exists()


async def test_the_node_tells_where_it_stands() -> None:
    here = model.Topology.of({"a": "b"})
    node = service.NodeService(memory_backend.MemoryBackend(topology=here))
    assert await node.topology() == here
    await node.close()
