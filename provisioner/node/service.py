"""The node's side of the driver, as seen from the event loop: publishing in threads, one call per volume at a time.

The CSI node service feeds it. The rules are those of `provisioner.workpool`: a mount that has begun is finished
whatever becomes of the caller, and a second call for the same volume is told so.
"""

import functools
from pathlib import Path

from provisioner import model, workpool
from provisioner.backends import base
from provisioner.node import publisher, requests


class NodeService:
    """Asynchronous `Publisher`. Errors are the publisher's own, unchanged."""

    def __init__(self, backend: base.NodeBackend, *, workers: int = 8) -> None:
        self._backend = backend
        self._publisher = publisher.Publisher(backend)
        self._pool = workpool.WorkPool(name="node", mutating=workers)

    async def publish(self, request: requests.PublishRequest) -> None:
        """Make the volume appear at the target path, as `Publisher.publish`.

        Raises:
            errors.OperationPendingError: a call for this volume has not ended.
        """
        await self._pool.mutate(
            str(request.volume_id),
            functools.partial(self._publisher.publish, request),
            doing=f"publishing volume {request.volume_id} at {request.target}",
        )

    async def unpublish(self, volume_id: model.VolumeId, target: Path) -> None:
        """Take the volume from the target path, as `Publisher.unpublish`.

        Raises:
            errors.OperationPendingError: a call for this volume has not ended.
        """
        await self._pool.mutate(
            str(volume_id),
            functools.partial(self._publisher.unpublish, volume_id, target),
            doing=f"unpublishing volume {volume_id} from {target}",
        )

    async def usage(self, volume_id: model.VolumeId, path: Path) -> model.Usage:
        """How full the volume is, as `Publisher.usage`."""
        return await self._pool.read(functools.partial(self._publisher.usage, volume_id, path))

    async def topology(self) -> model.Topology | None:
        """Where this node stands; None where every node reaches every volume."""
        return await self._pool.read(self._backend.topology)

    async def close(self) -> None:
        """Take no more calls and wait for the work that has begun."""
        await self._pool.close()
