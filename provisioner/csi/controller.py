"""The Controller service. Every RPC has one shape: read and check the request, call the service, build the reply.

Errors are raised as they are; `interceptors` turns them into a status. What is not overridden here is not announced,
and the generated base answers UNIMPLEMENTED.
"""

from typing import Any

from grpc import aio

from provisioner import errors, volumes
from provisioner.csi import replies, requests
from provisioner.generated import csi_pb2, csi_pb2_grpc

_Context = aio.ServicerContext[Any, Any]


class Controller(csi_pb2_grpc.ControllerServicer):
    """Makes, removes, lists and describes volumes by way of `volumes.VolumeService`."""

    def __init__(self, service: volumes.VolumeService) -> None:
        self._volumes = service
        self._capabilities = replies.controller_capabilities(service.features)

    async def CreateVolume(
        self, request: csi_pb2.CreateVolumeRequest, context: _Context
    ) -> csi_pb2.CreateVolumeResponse:
        """Serve CreateVolume."""
        made = await self._volumes.create(requests.create_volume(request))
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
        return replies.volume_page(found, page.limit)

    async def GetCapacity(self, request: csi_pb2.GetCapacityRequest, context: _Context) -> csi_pb2.GetCapacityResponse:
        """Serve GetCapacity."""
        if not self._volumes.features.capacity:
            raise errors.UnsupportedError("this storage does not know how much room it has")
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
        return csi_pb2.ControllerGetVolumeResponse(
            volume=replies.volume(found), status=csi_pb2.ControllerGetVolumeResponse.VolumeStatus()
        )

    async def ControllerGetCapabilities(
        self, request: csi_pb2.ControllerGetCapabilitiesRequest, context: _Context
    ) -> csi_pb2.ControllerGetCapabilitiesResponse:
        """Serve ControllerGetCapabilities."""
        return self._capabilities
