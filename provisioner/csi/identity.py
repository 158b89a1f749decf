"""The Identity service: who the driver is, what it offers, and whether its storage works."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf import wrappers_pb2
from grpc import aio

from provisioner import errors
from provisioner.backends import base
from provisioner.csi import capabilities
from provisioner.generated import csi_pb2, csi_pb2_grpc


class Identity(csi_pb2_grpc.IdentityServicer):
    """Answers for the whole plugin.

    Args:
        name: the driver's name.
        version: the program's version.
        features: of the backend.
        probe: proves that the storage works, as `volumes.VolumeService.probe`.
        controller: whether the Controller service stands beside this one.
        probe_timeout: seconds after which storage that does not answer is held to be broken.
    """

    def __init__(
        self,
        *,
        name: str,
        version: str,
        features: base.Features,
        probe: Callable[[], Awaitable[None]],
        controller: bool,
        probe_timeout: float = 2.0,
    ) -> None:
        self._info = csi_pb2.GetPluginInfoResponse(name=name, vendor_version=version)
        self._capabilities = capabilities.plugin(features, controller=controller)
        self._probe = probe
        self._probe_timeout = probe_timeout

    async def GetPluginInfo(
        self, request: csi_pb2.GetPluginInfoRequest, context: aio.ServicerContext[Any, Any]
    ) -> csi_pb2.GetPluginInfoResponse:
        """Serve GetPluginInfo."""
        return self._info

    async def GetPluginCapabilities(
        self, request: csi_pb2.GetPluginCapabilitiesRequest, context: aio.ServicerContext[Any, Any]
    ) -> csi_pb2.GetPluginCapabilitiesResponse:
        """Serve GetPluginCapabilities."""
        return self._capabilities

    async def Probe(
        self, request: csi_pb2.ProbeRequest, context: aio.ServicerContext[Any, Any]
    ) -> csi_pb2.ProbeResponse:
        """Serve Probe; storage that hangs is answered like storage that is broken."""
        try:
            async with asyncio.timeout(self._probe_timeout):
                await self._probe()
        except TimeoutError:
            raise errors.BackendUnavailableError(
                f"the storage did not answer within {self._probe_timeout:g} s",
                remedy="look for a hanging disk or network file system",
            ) from None
        return csi_pb2.ProbeResponse(ready=wrappers_pb2.BoolValue(value=True))
