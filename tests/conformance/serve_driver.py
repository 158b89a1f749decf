"""The CSI services of one backend as a process of its own: `serve_driver SOCKET DATA [--full | --rbd CLUSTERS]`.

Alone it has the in-memory backend of one node; with `--full` the one that offers everything, and with `--rbd` images on
the Ceph clusters of that file, attached for real. What is published of the others is a directory below DATA, or a loop
device over a file there.
"""

import argparse
import asyncio
import dataclasses
import signal
import tempfile
from pathlib import Path

from provisioner import metrics, model, volumes
from provisioner.backends import base
from provisioner.backends.rbd import backend as rbd_backend
from provisioner.backends.rbd import config
from provisioner.backends.rbd.client import connections, librbd
from provisioner.csi import controller, identity, node, server
from provisioner.node import device_service
from provisioner.node import service as node_service
from tests.contract import rbd_node
from tests.fakes import loop_volumes, memory_backend

NAME = "test.csi.provisioner"
NODE = "here"


async def serve(socket: Path, backend: base.Backend, on_node: node.NodeService) -> None:
    """Serve until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    service = volumes.VolumeService(backend)
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


async def serve_plain(socket: Path, data: Path) -> None:
    """Volumes of one node."""
    place = model.Topology.of({f"topology.{NAME}/node": NODE})
    backend = memory_backend.MemoryBackend(topology=place, data=data)
    on_node = node_service.NodeService(backend)
    await serve(socket, backend, on_node)
    await on_node.close()


async def serve_full(socket: Path, data: Path) -> None:
    """Volumes that a node can use after it was given them, with everything that can be announced."""
    features = dataclasses.replace(memory_backend.FULL, devices=True)
    backend = memory_backend.MemoryBackend(features=features, nodes=frozenset({NODE}))
    on_node = device_service.DeviceNodeService(loop_volumes.LoopVolumes(backend, data))
    await serve(socket, backend, on_node)
    await on_node.close()


async def serve_rbd(socket: Path, clusters: Path) -> None:
    """Images of a pool, attached as this machine can."""
    connected = connections.Connections(librbd.LibradosCluster)
    backend = rbd_backend.RbdBackend(
        config.RbdConfig(clusters=clusters), connected.get, metrics.Metrics(), has_node=lambda name: name == NODE
    )
    with tempfile.TemporaryDirectory() as state:
        on_node = device_service.DeviceNodeService(rbd_node.build(clusters, Path(state), mounter="auto"))
        await serve(socket, backend, on_node)
        await on_node.close()
    backend.close()


def main() -> None:
    """Read the command line, and serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("socket", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--rbd", type=Path)
    asked = parser.parse_args()
    if asked.rbd is not None:
        asyncio.run(serve_rbd(asked.socket, asked.rbd))
    else:
        asyncio.run((serve_full if asked.full else serve_plain)(asked.socket, asked.data))


if __name__ == "__main__":
    main()
