"""The Controller service. Every RPC has one shape: read and check the request, call the service, build the reply.

Errors are raised as they are; `interceptors` turns them into a status. What is not overridden here is not announced,
and the generated base answers UNIMPLEMENTED.
"""

import asyncio
from typing import Any

from grpc import aio

from provisioner import errors, model, volumes
from provisioner.csi import capabilities, paging, replies, requests, snapshots
from provisioner.generated import csi_pb2

_Context = aio.ServicerContext[Any, Any]


class Controller(snapshots.SnapshotCalls):
    """Makes, removes, lists, grows, publishes and describes volumes by way of `volumes.VolumeService`."""

    def __init__(self, service: volumes.VolumeService) -> None:
        super().__init__(service)
        self._capabilities = capabilities.controller(service.features)

    async def CreateVolume(
        self, request: csi_pb2.CreateVolumeRequest, context: _Context
    ) -> csi_pb2.CreateVolumeResponse:
        """Serve CreateVolume."""
        made = await self._volumes.create(requests.create_volume(request, self._features))
        return csi_pb2.CreateVolumeResponse(volume=replies.volume(made))

    async def DeleteVolume(
        self, request: csi_pb2.DeleteVolumeRequest, context: _Context
    ) -> csi_pb2.DeleteVolumeResponse:
        """Serve DeleteVolume."""
        await self._volumes.delete(requests.volume_id(request))
        return csi_pb2.DeleteVolumeResponse()

    async def ValidateVolumeCapabilities(
        self, request: csi_pb2.ValidateVolumeCapabilitiesRequest, context: _Context
    ) -> csi_pb2.ValidateVolumeCapabilitiesResponse:
        """Serve ValidateVolumeCapabilities."""
        asked = requests.validate_capabilities(request)
        refusal = await self._volumes.validate(asked.volume_id, asked.capabilities, asked.parameters)
        if refusal is None and asked.mutable:
            refusal = "this driver has no mutable parameters"
        return replies.validation(request, refusal)

    async def ListVolumes(self, request: csi_pb2.ListVolumesRequest, context: _Context) -> csi_pb2.ListVolumesResponse:
        """Serve ListVolumes; asks for one volume more than the page has, to know whether another page follows."""
        page = requests.list_volumes(request)
        found = await self._volumes.list(after=page.after, limit=page.limit + 1)
        entries = await asyncio.gather(*(self._listed(volume) for volume in found[: page.limit]))
        return replies.volume_page(
            [entry for entry in entries if entry is not None],
            paging.next_token([volume.id for volume in found], page.limit),
        )

    async def GetCapacity(self, request: csi_pb2.GetCapacityRequest, context: _Context) -> csi_pb2.GetCapacityResponse:
        """Serve GetCapacity."""
        capabilities.need(self._features.capacity, "knowledge of how much room it has")
        asked = requests.get_capacity(request)
        return replies.capacity(
            await self._volumes.capacity(
                capabilities=asked.capabilities, parameters=asked.parameters, topology=asked.topology
            )
        )

    async def ControllerGetVolume(
        self, request: csi_pb2.ControllerGetVolumeRequest, context: _Context
    ) -> csi_pb2.ControllerGetVolumeResponse:
        """Serve ControllerGetVolume."""
        found = await self._volumes.get(requests.volume_id(request))
        return replies.one_volume(found, await self._condition(found.id))

    async def ControllerExpandVolume(
        self, request: csi_pb2.ControllerExpandVolumeRequest, context: _Context
    ) -> csi_pb2.ControllerExpandVolumeResponse:
        """Serve ControllerExpandVolume. A device has to show its new size on its node, raw or with a filesystem."""
        capabilities.need(self._features.expansion, "growing volumes")
        asked = requests.expand_volume(request)
        grown = await self._volumes.expand(asked.volume_id, asked.size)
        return csi_pb2.ControllerExpandVolumeResponse(
            capacity_bytes=grown.size, node_expansion_required=self._features.devices
        )

    async def ControllerPublishVolume(
        self, request: csi_pb2.ControllerPublishVolumeRequest, context: _Context
    ) -> csi_pb2.ControllerPublishVolumeResponse:
        """Serve ControllerPublishVolume."""
        capabilities.need(self._features.publication, "publication to nodes")
        asked = requests.publish_volume(request)
        return csi_pb2.ControllerPublishVolumeResponse(
            publish_context=await self._volumes.publish(
                asked.volume_id, asked.node, asked.capability, read_only=asked.read_only
            )
        )

    async def ControllerUnpublishVolume(
        self, request: csi_pb2.ControllerUnpublishVolumeRequest, context: _Context
    ) -> csi_pb2.ControllerUnpublishVolumeResponse:
        """Serve ControllerUnpublishVolume."""
        capabilities.need(self._features.publication, "publication to nodes")
        volume_id, node = requests.unpublish_volume(request)
        await self._volumes.unpublish(volume_id, node)
        return csi_pb2.ControllerUnpublishVolumeResponse()

    async def ControllerGetCapabilities(
        self, request: csi_pb2.ControllerGetCapabilitiesRequest, context: _Context
    ) -> csi_pb2.ControllerGetCapabilitiesResponse:
        """Serve ControllerGetCapabilities."""
        return self._capabilities

    async def _listed(self, found: model.Volume) -> replies.Entry | None:
        """The volume with its condition; None where it is gone meanwhile."""
        try:
            return found, await self._condition(found.id)
        except errors.VolumeNotFoundError:
            return None

    async def _condition(self, volume_id: model.VolumeId) -> model.Condition | None:
        """What is wrong with the volume (CSI: a must where VOLUME_CONDITION is announced); None where nobody knows."""
        if not self._features.condition:
            return None
        try:
            return await self._volumes.condition(volume_id)
        except errors.BackendUnavailableError as unknown:
            return model.Condition(abnormal=True, message=str(unknown))
