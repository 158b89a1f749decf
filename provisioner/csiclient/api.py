"""What the controllers see of a driver: one protocol, its values and its one error."""

import dataclasses
import enum
from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from provisioner import model


class Code(enum.Enum):
    """How a call ended: the gRPC status codes, by their own names and numbers."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class CallError(Exception):
    """A call that the driver refused, or that did not reach it, or whose answer makes no sense.

    Attributes:
        code: what the driver answered. An answer that breaks the specification is `UNKNOWN`.
        message: the driver's own words, for the event on the claim.
        method: the call, e.g. `CreateVolume`.
    """

    def __init__(self, code: Code, message: str, method: str) -> None:
        super().__init__(code, message, method)
        self.code = code
        self.message = message
        self.method = method

    def __str__(self) -> str:
        return f"{self.method}: {self.code.name}: {self.message}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """Who the driver is and what it offers.

    Attributes:
        plugin_capabilities: e.g. `CONTROLLER_SERVICE`, `VOLUME_ACCESSIBILITY_CONSTRAINTS`, and for expansion
            `ONLINE` or `OFFLINE`; the specification's names. One that this program does not know is left out.
        controller_capabilities: e.g. `CREATE_DELETE_VOLUME`, likewise; empty where there is no Controller service.
    """

    name: str
    vendor_version: str
    plugin_capabilities: frozenset[str] = frozenset()
    controller_capabilities: frozenset[str] = frozenset()

    @property
    def supports_topology(self) -> bool:
        """Whether some nodes cannot reach some of its volumes."""
        return "VOLUME_ACCESSIBILITY_CONSTRAINTS" in self.plugin_capabilities


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NodeInfo:
    """The node on which the driver runs.

    Attributes:
        topology: where it stands; None where the driver does not say.
        max_volumes: how many volumes it can take; 0 where the driver does not say.
    """

    node_id: str
    topology: model.Topology | None = None
    max_volumes: int = 0


class Client(Protocol):
    """One driver. Every call takes its deadline in seconds and raises nothing but `CallError`.

    After `DEADLINE_EXCEEDED`, `CANCELLED`, `UNAVAILABLE` or `ABORTED` the outcome of a call that changes something is
    unknown: the driver may still be at work. All calls may be repeated.
    """

    async def describe(self, *, timeout: float) -> Driver:
        """Ask for the name and the capabilities; the deadline is for each of the calls that this takes."""

    async def probe(self, *, timeout: float) -> bool:
        """Whether the driver is ready; a driver that answers without saying so is."""

    async def create_volume(self, request: model.VolumeRequest, *, timeout: float) -> model.Volume:
        """Make the volume, or find it.

        The result's `size` is 0 where the driver does not say it, and its id may be any text that is not empty.
        """

    async def delete_volume(self, volume_id: str, secrets: Mapping[str, str], *, timeout: float) -> None:
        """Remove the volume; one that is gone already is no error."""

    def list_volumes(self, *, page: int, timeout: float) -> AsyncIterator[model.Volume]:
        """All volumes, asked for `page` at a time (0: as the driver likes); the deadline is for each page.

        A volume that comes or goes meanwhile may be missed, or met twice.
        """

    async def get_capacity(
        self,
        *,
        parameters: Mapping[str, str],
        capability: model.Capability | None,
        topology: model.Topology | None,
        timeout: float,
    ) -> model.Available:
        """The room for volumes of this kind in this place; `parameters` are the class's own, unstripped."""

    async def node_info(self, *, timeout: float) -> NodeInfo:
        """The node on which the driver runs."""

    async def close(self) -> None:
        """End the connection; calls that are under way end as `CANCELLED`."""
