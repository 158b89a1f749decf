"""The Node service: gives volumes to Pods on this node. Same shape as `controller`: read, call the service, reply.

Volumes are published straight to the Pod's path; STAGE_UNSTAGE_VOLUME is not announced.
"""

from pathlib import Path
from typing import Any, Protocol

from grpc import aio

from provisioner import model
from provisioner.backends import base
from provisioner.csi import replies, requests
from provisioner.generated import csi_pb2, csi_pb2_grpc
from provisioner.node import publisher

_Context = aio.ServicerContext[Any, Any]


class NodeService(Protocol):
    """What does the work: `node.service.NodeService`."""

    async def publish(self, request: publisher.PublishRequest) -> None:
        """Make the volume appear at the target path."""

    async def unpublish(self, volume_id: model.VolumeId, target: Path) -> None:
        """Take the volume from the target path."""

    async def usage(self, volume_id: model.VolumeId, path: Path) -> model.Usage:
        """How full the volume is that is published at the path."""

    async def topology(self) -> model.Topology | None:
        """Where this node stands; None where every node reaches every volume."""


class Node(csi_pb2_grpc.NodeServicer):
    """Publishes volumes by way of a `NodeService`.

    Args:
        service: does the work.
        node_id: the name of this node, as Kubernetes has it.
        features: of the backend.
    """

    def __init__(self, service: NodeService, *, node_id: str, features: base.Features) -> None:
        self._service = service
        self._node_id = node_id
        self._capabilities = replies.node_capabilities(features)

    async def NodePublishVolume(
        self, request: csi_pb2.NodePublishVolumeRequest, context: _Context
    ) -> csi_pb2.NodePublishVolumeResponse:
        """Serve NodePublishVolume."""
        await self._service.publish(requests.publish(request))
        return csi_pb2.NodePublishVolumeResponse()

    async def NodeUnpublishVolume(
        self, request: csi_pb2.NodeUnpublishVolumeRequest, context: _Context
    ) -> csi_pb2.NodeUnpublishVolumeResponse:
        """Serve NodeUnpublishVolume."""
        volume_id, target = requests.unpublish(request)
        await self._service.unpublish(volume_id, target)
        return csi_pb2.NodeUnpublishVolumeResponse()

    async def NodeGetVolumeStats(
        self, request: csi_pb2.NodeGetVolumeStatsRequest, context: _Context
    ) -> csi_pb2.NodeGetVolumeStatsResponse:
        """Serve NodeGetVolumeStats."""
        volume_id, path = requests.volume_stats(request)
        return replies.usage(await self._service.usage(volume_id, path))

    async def NodeGetInfo(self, request: csi_pb2.NodeGetInfoRequest, context: _Context) -> csi_pb2.NodeGetInfoResponse:
        """Serve NodeGetInfo."""
        return replies.node_info(self._node_id, await self._service.topology())

    async def NodeGetCapabilities(
        self, request: csi_pb2.NodeGetCapabilitiesRequest, context: _Context
    ) -> csi_pb2.NodeGetCapabilitiesResponse:
        """Serve NodeGetCapabilities."""
        return self._capabilities
