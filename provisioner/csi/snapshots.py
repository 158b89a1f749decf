"""The Controller service's calls about snapshots, in the same shape as the others: read, call the service, reply."""

from typing import Any

from grpc import aio

from provisioner import errors, model, volumes
from provisioner.csi import capabilities, replies, snapshot_requests
from provisioner.generated import csi_pb2, csi_pb2_grpc

_Context = aio.ServicerContext[Any, Any]


class SnapshotCalls(csi_pb2_grpc.ControllerServicer):
    """Takes, removes, finds and lists snapshots; a part of `controller.Controller`."""

    def __init__(self, service: volumes.VolumeService) -> None:
        self._volumes = service
        self._features = service.features

    async def CreateSnapshot(
        self, request: csi_pb2.CreateSnapshotRequest, context: _Context
    ) -> csi_pb2.CreateSnapshotResponse:
        """Serve CreateSnapshot."""
        capabilities.need(self._features.snapshots, "snapshots")
        taken = await self._volumes.create_snapshot(snapshot_requests.create_snapshot(request))
        return csi_pb2.CreateSnapshotResponse(snapshot=replies.snapshot(taken))

    async def DeleteSnapshot(
        self, request: csi_pb2.DeleteSnapshotRequest, context: _Context
    ) -> csi_pb2.DeleteSnapshotResponse:
        """Serve DeleteSnapshot."""
        capabilities.need(self._features.snapshots, "snapshots")
        await self._volumes.delete_snapshot(snapshot_requests.snapshot_id(request))
        return csi_pb2.DeleteSnapshotResponse()

    async def GetSnapshot(self, request: csi_pb2.GetSnapshotRequest, context: _Context) -> csi_pb2.GetSnapshotResponse:
        """Serve GetSnapshot."""
        capabilities.need(self._features.snapshots, "snapshots")
        found = await self._volumes.get_snapshot(snapshot_requests.snapshot_id(request))
        return csi_pb2.GetSnapshotResponse(snapshot=replies.snapshot(found))

    async def ListSnapshots(
        self, request: csi_pb2.ListSnapshotsRequest, context: _Context
    ) -> csi_pb2.ListSnapshotsResponse:
        """Serve ListSnapshots; what is asked for by an id that names nothing is an empty listing."""
        capabilities.need(self._features.snapshots, "snapshots")
        search = snapshot_requests.list_snapshots(request)
        if search.snapshot is not None:
            return await self._list_one(search.snapshot, search)
        found = await self._volumes.list_snapshots(source=search.source, after=search.after, limit=search.limit + 1)
        return replies.snapshot_page(found, search.limit)

    async def _list_one(
        self, snapshot_id: model.SnapshotId, search: snapshot_requests.Search
    ) -> csi_pb2.ListSnapshotsResponse:
        """One snapshot, which is also of the volume that was asked for, where one was."""
        try:
            found = [await self._volumes.get_snapshot(snapshot_id)]
        except errors.SnapshotNotFoundError:
            found = []
        matching = [item for item in found if search.source in {None, item.source}]
        return replies.snapshot_page(matching, search.limit)
