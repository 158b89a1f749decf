"""A node whose volumes are staged before they are published, without a device: it remembers where they were staged.

What is published is a real bind mount of a directory that stands for the volume.
"""

import asyncio
from pathlib import Path

from provisioner import errors, model
from provisioner.backends import base
from provisioner.node import requests, service


class _Directories:
    """A directory below `data` for each volume of the backend; implements `base.NodeBackend`."""

    def __init__(self, backend: base.Backend, data: Path) -> None:
        self._backend = backend
        self._data = data

    def topology(self) -> model.Topology | None:
        return None

    def locate(self, volume_id: model.VolumeId) -> Path:
        self._backend.get(volume_id)
        place = self._data / volume_id.value
        place.mkdir(exist_ok=True)
        return place

    def usage(self, volume_id: model.VolumeId) -> model.Usage:
        size = self._backend.get(volume_id).size
        return model.Usage(total=size, used=0, available=size)


class StagingNode:
    """Implements `csi.node.NodeService` and `csi.node.DeviceService`.

    Args:
        backend: whose volumes they are.
        data: where the directories are that stand for them.
    """

    def __init__(self, backend: base.Backend, data: Path) -> None:
        self._backend = backend
        self._mounts = service.NodeService(_Directories(backend, data))
        self._staged: dict[model.VolumeId, Path] = {}

    async def stage(self, request: requests.StageRequest) -> None:
        await asyncio.to_thread(self._backend.get, request.volume_id)
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
        return (await self._mounts.usage(request.volume_id, request.path)).total

    async def usage(self, volume_id: model.VolumeId, path: Path) -> model.Usage:
        return await self._mounts.usage(volume_id, path)

    async def condition(self, volume_id: model.VolumeId, path: Path) -> model.Condition:
        await self._mounts.usage(volume_id, path)
        return model.HEALTHY

    async def topology(self) -> model.Topology | None:
        return None

    async def close(self) -> None:
        await self._mounts.close()
