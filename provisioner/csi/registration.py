"""Makes the driver known to the kubelet, by a socket of its own in the kubelet's plugin registry.

The kubelet watches that directory, asks each socket there who it is, and answers how that went. A kubelet that was
restarted asks again, so the socket stays for as long as the driver serves, and goes with it.
"""

from pathlib import Path
from typing import Any

import structlog
from grpc import aio

from provisioner import errors, metrics
from provisioner.csi import interceptors, sockets
from provisioner.generated import pluginregistration_pb2 as registration_pb2
from provisioner.generated import pluginregistration_pb2_grpc as registration_pb2_grpc

_log = structlog.get_logger(__name__)

# `1.0.0` is what kubelets ask for, whatever 1.x version of CSI a driver speaks.
_VERSIONS = ("1.0.0",)


class Registration(registration_pb2_grpc.RegistrationServicer):
    """The registration socket of one driver.

    Args:
        driver: the driver's name.
        endpoint: the CSI socket as the kubelet sees it, that is: the host's path.
        registry: the kubelet's `plugins_registry` directory, as this process sees it.
        measured: gets the metrics of each call.

    Attributes:
        registered: whether the kubelet has accepted the driver; None until it has said.
        refusal: the kubelet's reason where it has not.
    """

    def __init__(self, *, driver: str, endpoint: Path, registry: Path, measured: metrics.Metrics) -> None:
        self._info = registration_pb2.PluginInfo(
            type="CSIPlugin", name=driver, endpoint=str(endpoint), supported_versions=_VERSIONS
        )
        self._registry = registry
        self._socket = registry / f"{driver}-reg.sock"
        self._observer = interceptors.Observer(measured)
        self._server: aio.Server | None = None
        self.registered: bool | None = None
        self.refusal = ""

    async def start(self) -> None:
        """Appear in the registry; the CSI socket must be served already, because the kubelet calls it at once.

        Raises:
            errors.SocketUnavailableError: there is no such directory, or another process registers this driver.
        """
        if not self._registry.is_dir():
            raise errors.SocketUnavailableError(
                f"the kubelet's plugin registry {self._registry} does not exist",
                remedy="mount the host's <kubelet root>/plugins_registry (type: Directory) there",
            )
        server = aio.server(interceptors=[self._observer])
        registration_pb2_grpc.add_RegistrationServicer_to_server(self, server)
        sockets.bind(server, self._socket)
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """Disappear from the registry, which deregisters the driver. Mounts are not touched by that."""
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    async def GetInfo(
        self, request: registration_pb2.InfoRequest, context: aio.ServicerContext[Any, Any]
    ) -> registration_pb2.PluginInfo:
        """Serve GetInfo."""
        return self._info

    async def NotifyRegistrationStatus(
        self, request: registration_pb2.RegistrationStatus, context: aio.ServicerContext[Any, Any]
    ) -> registration_pb2.RegistrationStatusResponse:
        """Serve NotifyRegistrationStatus: keep and log the kubelet's verdict. It asks again after a refusal."""
        self.registered = request.plugin_registered
        self.refusal = "" if request.plugin_registered else request.error or "the kubelet gave no reason"
        if self.registered:
            _log.info("the kubelet has registered the driver")
        else:
            _log.error("the kubelet refused to register the driver", error=self.refusal)
        return registration_pb2.RegistrationStatusResponse()
