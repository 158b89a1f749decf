"""The Node service: gives volumes to Pods on this node. Same shape as `controller`: read, call the service, reply.

Block devices are staged once per node before they are published to Pods; other volumes are published straight to the
Pod's path, and the calls of STAGE_UNSTAGE_VOLUME are not offered.
"""

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from grpc import aio

from provisioner import errors, model
from provisioner.backends import base
from provisioner.csi import capabilities, node_requests, replies
from provisioner.generated import csi_pb2, csi_pb2_grpc
from provisioner.node import requests

_Context = aio.ServicerContext[Any, Any]


class NodeService(Protocol):
    """What does the work for every kind of volume: `node.service`."""

    async def publish(self, request: requests.PublishRequest) -> None:
        """Make the volume appear at the target path."""

    async def unpublish(self, volume_id: model.VolumeId, target: Path) -> None:
        """Take the volume from the target path."""

    async def usage(self, volume_id: model.VolumeId, path: Path) -> model.Usage:
        """How full the volume is that is published at the path; of a raw block volume only its `total` is known."""

    async def topology(self) -> model.Topology | None:
        """Where this node stands; None where every node reaches every volume."""


@runtime_checkable
class DeviceService(Protocol):
    """What a `NodeService` does besides where the backend's volumes are devices."""

    async def stage(self, request: requests.StageRequest) -> None:
        """Make the volume ready at the staging path."""

    async def unstage(self, volume_id: model.VolumeId, staging: Path) -> None:
        """Take the volume from the staging path."""

    async def expand(self, request: requests.ExpandRequest) -> int:
        """Let the volume at the path show its present size; returns it in bytes."""

    async def condition(self, volume_id: model.VolumeId, path: Path) -> model.Condition:
        """Whether something is wrong with the volume that is staged or published at the path."""


class Node(csi_pb2_grpc.NodeServicer):
    """Publishes volumes by way of a `NodeService`.

    Args:
        service: does the work; also a `DeviceService` where the features say `devices`.
        node_id: the name of this node, as Kubernetes has it.
        features: of the backend.
    """

    def __init__(self, service: NodeService, *, node_id: str, features: base.Features) -> None:
        self._service = service
        self._node_id = node_id
        self._features = features
        self._devices = service if features.devices and isinstance(service, DeviceService) else None
        self._capabilities = capabilities.node(features)

    async def NodeStageVolume(
        self, request: csi_pb2.NodeStageVolumeRequest, context: _Context
    ) -> csi_pb2.NodeStageVolumeResponse:
        """Serve NodeStageVolume."""
        devices = capabilities.need(self._devices, "staging")
        await devices.stage(node_requests.stage(request))
        return csi_pb2.NodeStageVolumeResponse()

    async def NodeUnstageVolume(
        self, request: csi_pb2.NodeUnstageVolumeRequest, context: _Context
    ) -> csi_pb2.NodeUnstageVolumeResponse:
        """Serve NodeUnstageVolume."""
        devices = capabilities.need(self._devices, "staging")
        volume_id, staging = node_requests.unstage(request)
        await devices.unstage(volume_id, staging)
        return csi_pb2.NodeUnstageVolumeResponse()

    async def NodePublishVolume(
        self, request: csi_pb2.NodePublishVolumeRequest, context: _Context
    ) -> csi_pb2.NodePublishVolumeResponse:
        """Serve NodePublishVolume."""
        await self._service.publish(node_requests.publish(request, self._features))
        return csi_pb2.NodePublishVolumeResponse()

    async def NodeUnpublishVolume(
        self, request: csi_pb2.NodeUnpublishVolumeRequest, context: _Context
    ) -> csi_pb2.NodeUnpublishVolumeResponse:
        """Serve NodeUnpublishVolume."""
        volume_id, target = node_requests.unpublish(request)
        await self._service.unpublish(volume_id, target)
        return csi_pb2.NodeUnpublishVolumeResponse()

    async def NodeGetVolumeStats(
        self, request: csi_pb2.NodeGetVolumeStatsRequest, context: _Context
    ) -> csi_pb2.NodeGetVolumeStatsResponse:
        """Serve NodeGetVolumeStats."""
        volume_id, path = node_requests.volume_stats(request)
        if self._devices is None or not self._features.condition:
            return replies.stats(await self._service.usage(volume_id, path), None)
        state = await self._devices.condition(volume_id, path)
        return replies.stats(await self._usage(volume_id, path, state), state)

    async def NodeExpandVolume(
        self, request: csi_pb2.NodeExpandVolumeRequest, context: _Context
    ) -> csi_pb2.NodeExpandVolumeResponse:
        """Serve NodeExpandVolume."""
        devices = capabilities.need(self._devices if self._features.expansion else None, "growing volumes on the node")
        size = await devices.expand(node_requests.expand(request))
        return csi_pb2.NodeExpandVolumeResponse(capacity_bytes=size)

    async def NodeGetInfo(self, request: csi_pb2.NodeGetInfoRequest, context: _Context) -> csi_pb2.NodeGetInfoResponse:
        """Serve NodeGetInfo."""
        return replies.node_info(self._node_id, await self._service.topology())

    async def NodeGetCapabilities(
        self, request: csi_pb2.NodeGetCapabilitiesRequest, context: _Context
    ) -> csi_pb2.NodeGetCapabilitiesResponse:
        """Serve NodeGetCapabilities."""
        return self._capabilities

    async def _usage(self, volume_id: model.VolumeId, path: Path, state: model.Condition) -> model.Usage:
        """How full the volume is; nothing where it is broken: the kubelet reads no condition without any usage."""
        try:
            return await self._service.usage(volume_id, path)
        except errors.BackendUnavailableError:
            if not state.abnormal:
                raise
            return model.Usage(total=0, used=0, available=0)
