"""A real grpc.aio server on a unix socket, in front of the in-memory backend, and real stubs to call it."""

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import grpc
import pytest
from grpc import aio

from provisioner import metrics, model, volumes
from provisioner.csi import controller, identity, node, server
from provisioner.generated import csi_pb2_grpc
from tests.fakes import memory_backend, node_service

HERE = model.Topology.of({"topology.test/node": "node-1"})


@dataclasses.dataclass
class Driver:
    """The driver under test, and the ways to reach it."""

    socket: Path
    backend: memory_backend.MemoryBackend
    service: volumes.VolumeService
    node_service: node_service.FakeNodeService
    measured: metrics.Metrics
    server: server.Server
    identity: csi_pb2_grpc.IdentityStub
    controller: csi_pb2_grpc.ControllerStub
    node: csi_pb2_grpc.NodeStub


@pytest.fixture
async def driver(tmp_path: Path) -> AsyncIterator[Driver]:
    async with serving(tmp_path, memory_backend.MemoryBackend(topology=HERE)) as running:
        yield running


@pytest.fixture
async def full(tmp_path: Path) -> AsyncIterator[Driver]:
    """A driver whose backend offers everything, with volumes that are staged as devices."""
    features = dataclasses.replace(memory_backend.FULL, devices=True)
    backend = memory_backend.MemoryBackend(features=features, nodes=frozenset({"node-1", "node-2"}))
    async with serving(tmp_path, backend) as running:
        yield running


@contextlib.asynccontextmanager
async def serving(tmp_path: Path, backend: memory_backend.MemoryBackend) -> AsyncIterator[Driver]:
    service = volumes.VolumeService(backend)
    publishing = node_service.FakeNodeService(topology=HERE)
    measured = metrics.Metrics()
    listening = server.Server(
        tmp_path / "csi.sock",
        identity=identity.Identity(
            name="directory.csi.test",
            version="1.2.3",
            features=service.features,
            probe=service.probe,
            controller=True,
            probe_timeout=0.2,
        ),
        controller=controller.Controller(service),
        node=node.Node(publishing, node_id="node-1", features=service.features),
        measured=measured,
    )
    await listening.start()
    async with aio.insecure_channel(f"unix://{tmp_path / 'csi.sock'}") as channel:
        yield Driver(
            socket=tmp_path / "csi.sock",
            backend=backend,
            service=service,
            node_service=publishing,
            measured=measured,
            server=listening,
            identity=csi_pb2_grpc.IdentityStub(channel),
            controller=csi_pb2_grpc.ControllerStub(channel),
            node=csi_pb2_grpc.NodeStub(channel),
        )
    await listening.stop(1)
    await service.close()


async def refusal(call: Awaitable[object]) -> grpc.StatusCode:
    """The code that the call is refused with."""
    with pytest.raises(aio.AioRpcError) as refused:
        await call
    return refused.value.code()
