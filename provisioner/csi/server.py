"""Listens for CSI calls on one unix socket."""

from pathlib import Path

from grpc import aio

from provisioner import metrics
from provisioner.csi import controller, identity, interceptors, node, sockets
from provisioner.generated import csi_pb2_grpc


class Server:
    """The services of one process on one socket.

    Args:
        socket: where to listen; only root can connect.
        identity: served always.
        controller: served where this process makes volumes.
        node: served where this process publishes them.
        measured: gets the metrics of each call.
    """

    def __init__(
        self,
        socket: Path,
        *,
        identity: identity.Identity,
        controller: controller.Controller | None = None,
        node: node.Node | None = None,
        measured: metrics.Metrics,
    ) -> None:
        self._socket = socket
        self._identity = identity
        self._controller = controller
        self._node = node
        self._observer = interceptors.Observer(measured)
        self._server: aio.Server | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            errors.SocketUnavailableError: another process serves this socket, or the path cannot be one.
        """
        server = aio.server(interceptors=[self._observer])
        csi_pb2_grpc.add_IdentityServicer_to_server(self._identity, server)
        if self._controller is not None:
            csi_pb2_grpc.add_ControllerServicer_to_server(self._controller, server)
        if self._node is not None:
            csi_pb2_grpc.add_NodeServicer_to_server(self._node, server)
        sockets.bind(server, self._socket)
        await server.start()
        self._server = server

    async def stop(self, grace: float) -> None:
        """Take no more calls, give those that are under way `grace` seconds, and remove the socket.

        Calls that are cut off may still have work under way in `volumes`, which is drained after this.
        """
        if self._server is not None:
            await self._server.stop(grace)
            self._server = None
