"""The volume service: what is the same for every backend, once.

The CSI services call it from the event loop; it calls the backend in threads. It adds what `backends.base`
leaves to it: at most one call that changes a volume at a time, bounded work, mutations that outlive an impatient
caller. What a volume is copied from, by a snapshot, a restore or a clone, is not changed or removed meanwhile; several
copies of one source may be made at the same time.
"""

import asyncio
import functools
from collections.abc import Mapping, Sequence
from typing import TypeVar

from provisioner import errors, model, workpool
from provisioner.backends import base

_Part = TypeVar("_Part")


class VolumeService:
    """The backend, as seen from the event loop. Errors are the backend's own, unchanged."""

    def __init__(self, backend: base.Backend, *, workers: int = 16) -> None:
        self._backend = backend
        features = backend.features
        self._expansion = backend if features.expansion and isinstance(backend, base.Expansion) else None
        self._snapshots = backend if features.snapshots and isinstance(backend, base.Snapshots) else None
        self._publication = backend if features.publication and isinstance(backend, base.Publication) else None
        self._conditions = backend if features.condition and isinstance(backend, base.Conditions) else None
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
            errors.OperationPendingError: a call for this name has not ended, also where its caller has left; or the
                source is being changed or removed.
        """
        return await self._pool.mutate(
            f"name {request.name}",
            functools.partial(self._backend.create, request),
            doing=f"creating volume {request.name}",
            reading=() if request.source is None else (_key(request.source),),
        )

    async def delete(self, volume_id: model.VolumeId) -> None:
        """Remove the volume, as `base.Backend.delete`.

        Raises:
            errors.OperationPendingError: a call that changes or copies this volume has not ended.
        """
        await self._pool.mutate(
            _key(volume_id),
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

    async def expand(self, volume_id: model.VolumeId, size: model.SizeRange) -> model.Volume:
        """Make the volume larger, as `base.Expansion.expand`.

        Raises:
            errors.OperationPendingError: a call that changes or copies this volume has not ended.
        """
        expansion = _offered(self._expansion, "let volumes grow")
        return await self._pool.mutate(
            _key(volume_id),
            functools.partial(expansion.expand, volume_id, size),
            doing=f"expanding volume {volume_id}",
        )

    async def create_snapshot(self, request: model.SnapshotRequest) -> model.Snapshot:
        """Take the snapshot, or find it, as `base.Snapshots.create_snapshot`.

        Raises:
            errors.OperationPendingError: a call for this name, or one that changes the source, has not ended.
        """
        snapshots = _offered(self._snapshots, "take snapshots")
        return await self._pool.mutate(
            f"snapshot name {request.name}",
            functools.partial(snapshots.create_snapshot, request),
            doing=f"taking snapshot {request.name} of volume {request.source}",
            reading=(_key(request.source),),
        )

    async def delete_snapshot(self, snapshot_id: model.SnapshotId) -> None:
        """Remove the snapshot, as `base.Snapshots.delete_snapshot`.

        Raises:
            errors.OperationPendingError: a call that removes it or restores from it has not ended.
        """
        snapshots = _offered(self._snapshots, "take snapshots")
        await self._pool.mutate(
            _key(snapshot_id),
            functools.partial(snapshots.delete_snapshot, snapshot_id),
            doing=f"deleting snapshot {snapshot_id}",
        )

    async def get_snapshot(self, snapshot_id: model.SnapshotId) -> model.Snapshot:
        """The snapshot of this id, as `base.Snapshots.get_snapshot`."""
        snapshots = _offered(self._snapshots, "take snapshots")
        return await self._pool.read(functools.partial(snapshots.get_snapshot, snapshot_id))

    async def list_snapshots(
        self, *, source: model.VolumeId | None, after: model.SnapshotId | None, limit: int
    ) -> Sequence[model.Snapshot]:
        """One page of snapshots, as `base.Snapshots.list_snapshots`."""
        snapshots = _offered(self._snapshots, "take snapshots")
        return await self._pool.read(
            functools.partial(snapshots.list_snapshots, source=source, after=after, limit=limit)
        )

    async def publish(
        self, volume_id: model.VolumeId, node: str, capability: model.Capability, *, read_only: bool
    ) -> dict[str, str]:
        """Let the node use the volume, as `base.Publication.publish`.

        Raises:
            errors.OperationPendingError: a call that changes or copies this volume has not ended.
        """
        publication = _offered(self._publication, "give volumes to nodes")
        return await self._pool.mutate(
            _key(volume_id),
            functools.partial(publication.publish, volume_id, node, capability, read_only=read_only),
            doing=f"publishing volume {volume_id} to node {node}",
        )

    async def unpublish(self, volume_id: model.VolumeId, node: str) -> None:
        """Take the volume from the node, from every node where `node` is empty, as `base.Publication.unpublish`.

        Raises:
            errors.OperationPendingError: a call that changes or copies this volume has not ended.
        """
        publication = _offered(self._publication, "give volumes to nodes")
        await self._pool.mutate(
            _key(volume_id),
            functools.partial(publication.unpublish, volume_id, node),
            doing=f"unpublishing volume {volume_id} from {f'node {node}' if node else 'every node'}",
        )

    async def condition(self, volume_id: model.VolumeId) -> model.Condition:
        """What is wrong with the volume, as `base.Conditions.condition`."""
        conditions = _offered(self._conditions, "tell the condition of volumes")
        return await self._pool.read(functools.partial(conditions.condition, volume_id))

    async def close(self) -> None:
        """Take no more calls and wait for the work that has begun, however long it takes."""
        await self._pool.close()

    def _probed(self, probing: asyncio.Future[None]) -> None:
        self._probing = None
        if not probing.cancelled():
            probing.exception()  # Fetched, so that a failure nobody waited for is no warning of asyncio's.


def _key(thing: model.VolumeId | model.SnapshotId) -> str:
    return f"{'volume' if isinstance(thing, model.VolumeId) else 'snapshot'} {thing}"


def _offered(part: _Part | None, what: str) -> _Part:
    if part is None:
        raise errors.UnsupportedError(f"this storage does not {what}")
    return part
