"""The node's side of a driver whose volumes are devices, as seen from the event loop; its rules are `service`'s."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from provisioner import model, workpool
from provisioner.backends import base
from provisioner.node import device_volumes, requests

_T = TypeVar("_T")


class DeviceNodeService:
    """Asynchronous `DeviceVolumes`. Errors are its own, unchanged.

    A call that changes something raises `errors.OperationPendingError` while another for the same volume runs.
    """

    def __init__(
        self, backend: base.DeviceBackend, *, volumes: device_volumes.DeviceVolumes | None = None, workers: int = 8
    ) -> None:
        self._volumes = volumes or device_volumes.DeviceVolumes(backend)
        self._pool = workpool.WorkPool(name="node", mutating=workers)

    async def stage(self, request: requests.StageRequest) -> None:
        """Make the volume ready at the staging path."""
        work = functools.partial(self._volumes.stage, request)
        await self._change(request.volume_id, work, f"staging volume {request.volume_id} at {request.staging}")

    async def unstage(self, volume_id: model.VolumeId, staging: Path) -> None:
        """Take the volume from the staging path and the node."""
        work = functools.partial(self._volumes.unstage, volume_id, staging)
        await self._change(volume_id, work, f"unstaging volume {volume_id} from {staging}")

    async def publish(self, request: requests.PublishRequest) -> None:
        """Make the staged volume appear at the target path."""
        work = functools.partial(self._volumes.publish, request)
        await self._change(request.volume_id, work, f"publishing volume {request.volume_id} at {request.target}")

    async def unpublish(self, volume_id: model.VolumeId, target: Path) -> None:
        """Take the volume from the target path."""
        work = functools.partial(self._volumes.unpublish, volume_id, target)
        await self._change(volume_id, work, f"unpublishing volume {volume_id} from {target}")

    async def expand(self, request: requests.ExpandRequest) -> int:
        """Let the volume have its present size; returns it in bytes."""
        work = functools.partial(self._volumes.expand, request)
        return await self._change(request.volume_id, work, f"growing volume {request.volume_id} at {request.path}")

    async def usage(self, volume_id: model.VolumeId, path: Path) -> model.Usage:
        """How full the volume is."""
        return await self._pool.read(functools.partial(self._volumes.usage, volume_id, path))

    async def condition(self, volume_id: model.VolumeId, path: Path) -> model.Condition:
        """Whether something is wrong with the volume."""
        return await self._pool.read(functools.partial(self._volumes.condition, volume_id, path))

    async def topology(self) -> model.Topology | None:
        """Where this node stands; None where every node reaches every volume."""
        return await self._pool.read(self._volumes.topology)

    async def close(self) -> None:
        """Take no more calls and wait for the work that has begun."""
        await self._pool.close()

    async def _change(self, volume_id: model.VolumeId, work: Callable[[], _T], doing: str) -> _T:
        return await self._pool.mutate(str(volume_id), work, doing=doing)
