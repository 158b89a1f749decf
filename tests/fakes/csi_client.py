"""A CSI driver in memory, behind the interface of `provisioner.csiclient.Client`, with a plan of faults.

It keeps the CSI specification's word on idempotency, so that a test can ask in the end what matters: which volumes
there are. A fault is planned per method and used up by one call.
"""

import asyncio
import collections
import dataclasses
import enum
from collections.abc import AsyncIterator, Mapping

from provisioner import csiclient, model


class When(enum.Enum):
    """The moment of a fault: before the call has its effect, after it, or never an answer (effect included)."""

    BEFORE = "before"
    AFTER = "after"
    HANG = "hang"


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with one call."""

    code: csiclient.Code
    when: When = When.BEFORE
    message: str = "as the test has planned"


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """A call that was made."""

    method: str
    argument: object


_CAPABILITIES = frozenset({"CREATE_DELETE_VOLUME", "LIST_VOLUMES", "GET_CAPACITY", "SINGLE_NODE_MULTI_WRITER"})


class FakeClient:
    """Implements `csiclient.Client`."""

    def __init__(
        self,
        *,
        name: str = "driver.example",
        topology: bool = False,
        controller_capabilities: frozenset[str] = _CAPABILITIES,
        place: model.Topology | None = None,
        context: Mapping[str, str] | None = None,
    ) -> None:
        plugin = {"CONTROLLER_SERVICE"} | ({"VOLUME_ACCESSIBILITY_CONSTRAINTS"} if topology else set())
        self.driver = csiclient.Driver(
            name=name,
            vendor_version="1",
            plugin_capabilities=frozenset(plugin),
            controller_capabilities=controller_capabilities,
        )
        self.place = place
        self.context = dict(context or {})
        self.volumes: dict[str, model.Volume] = {}
        self.requests: dict[str, model.VolumeRequest] = {}
        self.calls: list[Call] = []
        self.secrets: list[Mapping[str, str]] = []
        self.room = model.Available(total=1 << 50, largest=1 << 50)
        self.shrink = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.busy: collections.Counter[str] = collections.Counter()
        self.overlaps: list[str] = []
        self._faults: dict[str, collections.deque[Fault]] = collections.defaultdict(collections.deque)

    def plan(self, method: str, *faults: Fault) -> None:
        """Let the next calls of `method` go wrong, in this order."""
        self._faults[method].extend(faults)

    def called(self, method: str) -> list[object]:
        """The arguments of the calls of `method` so far."""
        return [call.argument for call in self.calls if call.method == method]

    async def describe(self, *, timeout: float) -> csiclient.Driver:
        self.calls.append(Call("describe", None))
        await self._before("describe", timeout)
        return self.driver

    async def probe(self, *, timeout: float) -> bool:
        return True

    async def create_volume(self, request: model.VolumeRequest, *, timeout: float) -> model.Volume:
        self.calls.append(Call("create_volume", request))
        self.secrets.append(request.secrets)
        fault = await self._before("create_volume", timeout)
        kept = self.requests.get(request.name)
        if kept is not None and kept != request:
            raise csiclient.CallError(csiclient.Code.ALREADY_EXISTS, "another volume has the name", "CreateVolume")
        self.requests[request.name] = request
        places = request.accessibility.preferred[:1]
        volume = model.Volume(
            id=model.VolumeId(f"vol-{request.name}"),
            size=request.size.required - self.shrink,
            context=self.context,
            topologies=(self.place,) if self.place else places,
            source=request.source,
        )
        self.volumes[str(volume.id)] = volume
        await self._after("create_volume", fault, timeout)
        return volume

    async def delete_volume(self, volume_id: str, secrets: Mapping[str, str], *, timeout: float) -> None:
        self.calls.append(Call("delete_volume", volume_id))
        self.secrets.append(secrets)
        self.busy[volume_id] += 1
        if self.busy[volume_id] > 1:
            self.overlaps.append(volume_id)
        try:
            fault = await self._before("delete_volume", timeout)
            volume = self.volumes.pop(volume_id, None)
            if volume is not None:
                self.requests.pop(volume_id.removeprefix("vol-"), None)
            await self._after("delete_volume", fault, timeout)
        finally:
            self.busy[volume_id] -= 1

    async def list_volumes(self, *, page: int, timeout: float) -> AsyncIterator[model.Volume]:
        for volume in list(self.volumes.values()):
            yield volume

    async def get_capacity(
        self,
        *,
        parameters: Mapping[str, str],
        capability: model.Capability | None,
        topology: model.Topology | None,
        timeout: float,
    ) -> model.Available:
        self.calls.append(Call("get_capacity", parameters))
        await self._before("get_capacity", timeout)
        return self.room

    async def node_info(self, *, timeout: float) -> csiclient.NodeInfo:
        return csiclient.NodeInfo(node_id="node", topology=self.place)

    async def close(self) -> None:
        pass

    async def _before(self, method: str, timeout: float) -> Fault | None:
        fault = self._faults[method].popleft() if self._faults[method] else None
        if fault is not None and fault.when is When.BEFORE:
            raise csiclient.CallError(fault.code, fault.message, method)
        if method in {"create_volume", "delete_volume"}:
            await self.gate.wait()
        return fault

    async def _after(self, method: str, fault: Fault | None, timeout: float) -> None:
        if fault is None:
            return
        if fault.when is When.HANG:
            await asyncio.sleep(timeout)
            raise csiclient.CallError(csiclient.Code.DEADLINE_EXCEEDED, "deadline exceeded", method)
        raise csiclient.CallError(fault.code, fault.message, method)
