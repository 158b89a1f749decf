"""The volume service: what is the same for every backend, once.

The CSI services call it from the event loop; it calls the backend in threads. It adds what `backends.base`
leaves to it: at most one mutating call per volume, bounded work, mutations that outlive an impatient caller.
"""

import asyncio
import functools
from collections.abc import Mapping, Sequence

from provisioner import model, workpool
from provisioner.backends import base


class VolumeService:
    """The backend, as seen from the event loop. Errors are the backend's own, unchanged."""

    def __init__(self, backend: base.Backend, *, workers: int = 16) -> None:
        self._backend = backend
        self._pool = workpool.WorkPool(name="volume", mutating=workers)
        self._probing: asyncio.Future[None] | None = None

    @property
    def features(self) -> base.Features:
        """What the backend offers."""
        return self._backend.features

    async def probe(self) -> None:
        """Prove that the storage works, as `base.Backend.probe`; callers at the same time share one proof."""
        if self._probing is None:
            self._probing = asyncio.ensure_future(self._pool.read(self._backend.probe))
            self._probing.add_done_callback(self._probed)
        await asyncio.shield(self._probing)

    async def create(self, request: model.VolumeRequest) -> model.Volume:
        """Make the volume, or find it, as `base.Backend.create`.

        Raises:
            errors.OperationPendingError: a call for this name has not ended; also where its caller has left.
        """
        return await self._pool.mutate(
            f"name {request.name}",
            functools.partial(self._backend.create, request),
            doing=f"creating volume {request.name}",
        )

    async def delete(self, volume_id: model.VolumeId) -> None:
        """Remove the volume, as `base.Backend.delete`.

        Raises:
            errors.OperationPendingError: a call that changes this volume has not ended.
        """
        await self._pool.mutate(
            f"id {volume_id}",
            functools.partial(self._backend.delete, volume_id),
            doing=f"deleting volume {volume_id}",
        )

    async def get(self, volume_id: model.VolumeId) -> model.Volume:
        """The volume of this id, as `base.Backend.get`."""
        return await self._pool.read(functools.partial(self._backend.get, volume_id))

    async def list(self, *, after: model.VolumeId | None, limit: int) -> Sequence[model.Volume]:
        """One page of volumes, as `base.Backend.list`."""
        return await self._pool.read(functools.partial(self._backend.list, after=after, limit=limit))

    async def validate(
        self,
        volume_id: model.VolumeId,
        capabilities: Sequence[model.Capability],
        parameters: Mapping[str, str],
    ) -> str | None:
        """Why the volume cannot be used so, or None, as `base.Backend.validate`."""
        return await self._pool.read(
            functools.partial(self._backend.validate, volume_id, capabilities, dict(parameters))
        )

    async def capacity(
        self,
        *,
        capabilities: Sequence[model.Capability],
        parameters: Mapping[str, str],
        topology: model.Topology | None,
    ) -> model.Available:
        """The room for new volumes, as `base.Backend.capacity`."""
        return await self._pool.read(
            functools.partial(
                self._backend.capacity,
                capabilities=capabilities,
                parameters=dict(parameters),
                topology=topology,
            )
        )

    async def close(self) -> None:
        """Take no more calls and wait for the work that has begun, however long it takes."""
        await self._pool.close()

    def _probed(self, probing: asyncio.Future[None]) -> None:
        self._probing = None
        if not probing.cancelled():
            probing.exception()  # Fetched, so that a failure nobody waited for is no warning of asyncio's.
