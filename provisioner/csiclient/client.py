"""The client over grpc.aio and a unix socket.

The channel connects when it is first used and again whenever the driver was restarted; calls in between fail with
`UNAVAILABLE`. Requests are never logged: they hold secrets. One client belongs to one event loop.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import TypeVar

import structlog
from grpc import aio

from provisioner import errors, metrics, model
from provisioner.csiclient import api, messages
from provisioner.generated import csi_pb2, csi_pb2_grpc

_Request = TypeVar("_Request")
_Reply = TypeVar("_Reply")
_log = structlog.get_logger(__name__)

# The default waits up to 20 s, then 120 s, before it looks for a restarted driver again. A socket file costs nothing
# to try. Some drivers refuse the socket's path as an authority, so every driver gets what a browser would send.
_CHANNEL_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.default_authority", "localhost"),
)


class GrpcClient:
    """A driver behind a unix socket; implements `api.Client`.

    Args:
        endpoint: `unix:///path` or the absolute path itself.
        measured: gets `csi_sidecar_operations_seconds` of every call.

    Raises:
        errors.InvalidRequestError: the endpoint is no unix socket.
    """

    def __init__(self, endpoint: str, *, measured: metrics.Metrics) -> None:
        self._channel = aio.insecure_channel(_target(endpoint), options=_CHANNEL_OPTIONS)
        self._identity = csi_pb2_grpc.IdentityStub(self._channel)
        self._controller = csi_pb2_grpc.ControllerStub(self._channel)
        self._node = csi_pb2_grpc.NodeStub(self._channel)
        self._metrics = measured
        self._driver_name = "unknown-driver"

    async def describe(self, *, timeout: float) -> api.Driver:
        """Ask for the name and the capabilities, as `api.Client.describe`."""
        info = await self._call(
            "Identity/GetPluginInfo", self._identity.GetPluginInfo, csi_pb2.GetPluginInfoRequest(), timeout
        )
        self._driver_name = info.name
        plugin = messages.plugin_capabilities(
            await self._call(
                "Identity/GetPluginCapabilities",
                self._identity.GetPluginCapabilities,
                csi_pb2.GetPluginCapabilitiesRequest(),
                timeout,
            )
        )
        return api.Driver(
            name=info.name,
            vendor_version=info.vendor_version,
            plugin_capabilities=plugin,
            controller_capabilities=(
                await self._controller_capabilities(timeout) if "CONTROLLER_SERVICE" in plugin else frozenset()
            ),
        )

    async def probe(self, *, timeout: float) -> bool:
        """Whether the driver is ready, as `api.Client.probe`."""
        reply = await self._call("Identity/Probe", self._identity.Probe, csi_pb2.ProbeRequest(), timeout)
        return reply.ready.value if reply.HasField("ready") else True

    async def create_volume(self, request: model.VolumeRequest, *, timeout: float) -> model.Volume:
        """Make the volume, or find it, as `api.Client.create_volume`."""
        message = messages.create_volume(request)
        reply = await self._call("Controller/CreateVolume", self._controller.CreateVolume, message, timeout)
        if not reply.volume.volume_id:
            raise api.CallError(api.Code.UNKNOWN, "the driver answered with no volume id", "CreateVolume")
        return messages.volume(reply.volume)

    async def delete_volume(self, volume_id: str, secrets: Mapping[str, str], *, timeout: float) -> None:
        """Remove the volume, as `api.Client.delete_volume`."""
        message = csi_pb2.DeleteVolumeRequest(volume_id=volume_id, secrets=secrets)
        await self._call("Controller/DeleteVolume", self._controller.DeleteVolume, message, timeout)

    async def list_volumes(self, *, page: int, timeout: float) -> AsyncIterator[model.Volume]:
        """All volumes, as `api.Client.list_volumes`."""
        token = ""
        while True:
            message = csi_pb2.ListVolumesRequest(max_entries=page, starting_token=token)
            reply = await self._call("Controller/ListVolumes", self._controller.ListVolumes, message, timeout)
            for entry in reply.entries:
                yield messages.volume(entry.volume)
            if not reply.next_token:
                return
            if reply.next_token == token:
                raise api.CallError(api.Code.UNKNOWN, "the driver answered the same page token twice", "ListVolumes")
            token = reply.next_token

    async def get_capacity(
        self,
        *,
        parameters: Mapping[str, str],
        capability: model.Capability | None,
        topology: model.Topology | None,
        timeout: float,
    ) -> model.Available:
        """The room for new volumes, as `api.Client.get_capacity`."""
        message = csi_pb2.GetCapacityRequest(
            parameters=parameters,
            volume_capabilities=[] if capability is None else [messages.capability(capability)],
            accessible_topology=None if topology is None else messages.topology(topology),
        )
        reply = await self._call("Controller/GetCapacity", self._controller.GetCapacity, message, timeout)
        return messages.available(reply)

    async def node_info(self, *, timeout: float) -> api.NodeInfo:
        """The node on which the driver runs, as `api.Client.node_info`."""
        message = csi_pb2.NodeGetInfoRequest()
        return messages.node_info(await self._call("Node/NodeGetInfo", self._node.NodeGetInfo, message, timeout))

    async def close(self) -> None:
        """End the connection; calls that are under way end as `CANCELLED`."""
        await self._channel.close()

    async def _controller_capabilities(self, timeout: float) -> frozenset[str]:
        return messages.controller_capabilities(
            await self._call(
                "Controller/ControllerGetCapabilities",
                self._controller.ControllerGetCapabilities,
                csi_pb2.ControllerGetCapabilitiesRequest(),
                timeout,
            )
        )

    async def _call(
        self,
        name: str,
        method: aio.UnaryUnaryMultiCallable[_Request, _Reply],
        request: _Request,
        timeout: float,
    ) -> _Reply:
        began = time.monotonic()
        code = api.Code.OK
        try:
            return await method(request, timeout=timeout)
        except aio.AioRpcError as error:
            code = api.Code[error.code().name]
            raise api.CallError(code, error.details() or "", name.rpartition("/")[2]) from error
        except asyncio.CancelledError:
            code = api.Code.CANCELLED
            if _cancelled_by_caller():
                raise
            raise api.CallError(code, "the connection was closed", name.rpartition("/")[2]) from None
        finally:
            self._measure(name, code, time.monotonic() - began)

    def _measure(self, name: str, code: api.Code, seconds: float) -> None:
        self._metrics.csi_client_seconds.labels(
            driver_name=self._driver_name, method_name=f"/csi.v1.{name}", grpc_status_code=_metric_code(code)
        ).observe(seconds)
        _log.debug("called the driver", method=name, code=code.name, seconds=round(seconds, 4))


def _target(endpoint: str) -> str:
    path = endpoint.removeprefix("unix://")
    if not path.startswith("/"):
        raise errors.InvalidRequestError(
            f"CSI endpoint {endpoint!r} is no unix socket",
            remedy="write it as unix:///path/to/csi.sock",
        )
    return f"unix://{path}"


def _cancelled_by_caller() -> bool:
    """Whether it is our own task that was cancelled: grpc.aio cancels the calls of a channel that is closed, too."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _metric_code(code: api.Code) -> str:
    """The code as the stock sidecars write it in their metrics: Go's names."""
    if code is api.Code.OK:
        return "OK"
    if code is api.Code.CANCELLED:
        return "Canceled"
    return code.name.title().replace("_", "")
