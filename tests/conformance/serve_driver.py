"""The CSI services in front of the in-memory backend, as a process of its own: `serve_driver SOCKET DATA`.

What is made lasts as long as the process; what is published is a real bind mount of a directory below DATA.
"""

import asyncio
import signal
import sys
from pathlib import Path

from provisioner import metrics, model, volumes
from provisioner.csi import controller, identity, node, server
from provisioner.node import service as node_service
from tests.fakes import memory_backend

NAME = "memory.csi.provisioner"


async def serve(socket: Path, data: Path) -> None:
    """Serve until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    backend = memory_backend.MemoryBackend(topology=model.Topology.of({f"topology.{NAME}/node": "here"}), data=data)
    service = volumes.VolumeService(backend)
    mounts = node_service.NodeService(backend)
    serving = server.Server(
        socket,
        identity=identity.Identity(
            name=NAME, version="0", features=backend.features, probe=service.probe, controller=True
        ),
        controller=controller.Controller(service),
        node=node.Node(mounts, node_id="here", features=backend.features),
        measured=metrics.Metrics(),
    )
    await serving.start()
    await stop.wait()
    await serving.stop(5)
    await service.close()
    await mounts.close()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), Path(sys.argv[2])))
