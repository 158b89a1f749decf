"""The CSI services in front of the in-memory backend, as a process of its own: `serve_driver SOCKET DATA [--full]`.

What is made lasts as long as the process; what is published is a real bind mount of a directory below DATA. With
`--full` the backend offers everything, and volumes are staged, as devices are.
"""

import argparse
import asyncio
import dataclasses
import signal
from pathlib import Path

from provisioner import metrics, model, volumes
from provisioner.csi import controller, identity, node, server
from provisioner.node import service as node_service
from tests.fakes import memory_backend, staging_node

NAME = "memory.csi.provisioner"
NODE = "here"


def plain_backend(data: Path) -> memory_backend.MemoryBackend:
    """Volumes of one node."""
    return memory_backend.MemoryBackend(topology=model.Topology.of({f"topology.{NAME}/node": NODE}), data=data)


def full_backend(data: Path) -> memory_backend.MemoryBackend:
    """Volumes that every node reaches, after it was given them."""
    features = dataclasses.replace(memory_backend.FULL, devices=True)
    return memory_backend.MemoryBackend(features=features, data=data, nodes=frozenset({NODE}))


async def serve(socket: Path, backend: memory_backend.MemoryBackend) -> None:
    """Serve until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    service = volumes.VolumeService(backend)
    mounts = node_service.NodeService(backend)
    on_node = staging_node.StagingNode(mounts, backend) if backend.features.devices else mounts
    serving = server.Server(
        socket,
        identity=identity.Identity(
            name=NAME, version="0", features=backend.features, probe=service.probe, controller=True
        ),
        controller=controller.Controller(service),
        node=node.Node(on_node, node_id=NODE, features=backend.features),
        measured=metrics.Metrics(),
    )
    await serving.start()
    await stop.wait()
    await serving.stop(5)
    await service.close()
    await mounts.close()


def main() -> None:
    """Read the command line, and serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("socket", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--full", action="store_true")
    asked = parser.parse_args()
    asyncio.run(serve(asked.socket, (full_backend if asked.full else plain_backend)(asked.data)))


if __name__ == "__main__":
    main()
