"""A node whose volumes are staged before they are published, without a device: it remembers where they were staged.

What is published is a real bind mount of the volume's directory.
"""

from pathlib import Path

from provisioner import errors, model
from provisioner.node import requests, service
from tests.fakes import memory_backend


class StagingNode:
    """Implements `csi.node.NodeService`.

    Args:
        mounts: publishes the directories.
        backend: whose volumes they are.
    """

    def __init__(self, mounts: service.NodeService, backend: memory_backend.MemoryBackend) -> None:
        self._mounts = mounts
        self._backend = backend
        self._staged: dict[model.VolumeId, Path] = {}

    async def stage(self, request: requests.StageRequest) -> None:
        self._backend.get(request.volume_id)
        if self._staged.setdefault(request.volume_id, request.staging) != request.staging:
            raise errors.VolumeExistsError(f"volume {request.volume_id} is staged elsewhere")

    async def unstage(self, volume_id: model.VolumeId, staging: Path) -> None:
        if self._staged.get(volume_id) == staging:
            del self._staged[volume_id]

    async def publish(self, request: requests.PublishRequest) -> None:
        if request.staging is None or self._staged.get(request.volume_id) != request.staging:
            raise errors.NotReadyError(f"volume {request.volume_id} is not staged at {request.staging}")
        await self._mounts.publish(request)

    async def unpublish(self, volume_id: model.VolumeId, target: Path) -> None:
        await self._mounts.unpublish(volume_id, target)

    async def expand(self, request: requests.ExpandRequest) -> int:
        await self._mounts.usage(request.volume_id, request.path)
        return self._backend.get(request.volume_id).size

    async def usage(self, volume_id: model.VolumeId, path: Path) -> model.Usage:
        return await self._mounts.usage(volume_id, path)

    async def condition(self, volume_id: model.VolumeId, path: Path) -> model.Condition:
        await self._mounts.usage(volume_id, path)
        return model.HEALTHY

    async def topology(self) -> model.Topology | None:
        return None
