"""A backend that keeps its volumes in a dictionary: fast, forgetful, and able to fail or hang on request.

It passes the same contract suite as the real ones, so that a test that uses it learns nothing false.
"""

import collections
import dataclasses
import hashlib
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from provisioner import errors, model
from provisioner.backends import base

DEFAULT_SIZE = model.GIB
_METADATA = "csi.storage.k8s.io/"


@dataclasses.dataclass(frozen=True)
class _Entry:
    volume: model.Volume
    request: model.VolumeRequest


class MemoryBackend:
    """Volumes in memory.

    Attributes:
        in_use: ids that `delete` refuses, as if they were mounted.
        quarantined: ids whose record is to be taken for unreadable.
        calls: how often each step was reached.
    """

    def __init__(
        self,
        *,
        size: int = 100 * model.GIB,
        topology: model.Topology | None = None,
        data: Path | None = None,
        known_parameters: frozenset[str] = frozenset({"enforcement", "pool"}),
    ) -> None:
        self._size = size
        self._topology = topology
        self._data = data
        self._known_parameters = known_parameters
        self._entries: dict[model.VolumeId, _Entry] = {}
        self._hooks: dict[str, Callable[[], None]] = {}
        self._lock = threading.Lock()
        self.in_use: set[model.VolumeId] = set()
        self.quarantined: set[model.VolumeId] = set()
        self.calls: collections.Counter[str] = collections.Counter()

    def on(self, step: str, hook: Callable[[], None]) -> None:
        """Call `hook` whenever `step` is reached; it may raise, or wait for an event to make the call hang.

        The steps: "probe", "create", "created" (done, not yet answered), "delete", "deleted", "get", "list",
        "validate", "capacity", "locate", "usage".
        """
        self._hooks[step] = hook

    def fail(self, step: str, error: Exception) -> None:
        """Raise `error` whenever `step` is reached."""

        def hook() -> None:
            raise error

        self.on(step, hook)

    def mend(self, step: str) -> None:
        """Let `step` work again."""
        self._hooks.pop(step, None)

    def _reach(self, step: str) -> None:
        self.calls[step] += 1
        self._hooks.get(step, lambda: None)()

    @property
    def features(self) -> base.Features:
        return base.Features(topology=self._topology is not None, capacity=True, single_node_multi_writer=True)

    def probe(self) -> None:
        self._reach("probe")

    def create(self, request: model.VolumeRequest) -> model.Volume:
        self._reach("create")
        self._check(request.capabilities, request.parameters)
        with self._lock:
            volume = self._find(request) or self._make(request)
        self._reach("created")
        return volume

    def _find(self, request: model.VolumeRequest) -> model.Volume | None:
        entry = self._entries.get(_id_of(request.name))
        if entry is None:
            return None
        same = (
            request.size.accepts(entry.volume.size)
            and set(request.capabilities) == set(entry.request.capabilities)
            and _own(request.parameters) == _own(entry.request.parameters)
        )
        if not same:
            raise errors.VolumeExistsError(f"volume {request.name} exists with other properties")
        return entry.volume

    def _make(self, request: model.VolumeRequest) -> model.Volume:
        size = request.size.required or min(DEFAULT_SIZE, request.size.limit or DEFAULT_SIZE)
        places = request.accessibility.requisite
        if self._topology and places and not any(self._topology.within(place) for place in places):
            raise errors.InsufficientCapacityError("none of the places asked for is here")
        if size > self._size:
            kind = errors.InsufficientCapacityError if self._topology else errors.SizeOutOfRangeError
            raise kind(f"{size} bytes are more than the {self._size} there are")
        if size > self._free():
            raise errors.InsufficientCapacityError(f"{self._free()} bytes are left, {size} were asked for")
        volume = model.Volume(
            id=_id_of(request.name), size=size, topologies=(self._topology,) if self._topology else ()
        )
        self._entries[volume.id] = _Entry(volume, request)
        return volume

    def delete(self, volume_id: model.VolumeId) -> None:
        self._reach("delete")
        if volume_id in self.in_use:
            raise errors.VolumeInUseError(f"volume {volume_id} is mounted")
        with self._lock:
            self._entries.pop(volume_id, None)
            if self._data is not None:
                shutil.rmtree(self._data / volume_id.value, ignore_errors=True)
        self._reach("deleted")

    def get(self, volume_id: model.VolumeId) -> model.Volume:
        self._reach("get")
        return self._entry(volume_id).volume

    def list(self, *, after: model.VolumeId | None, limit: int) -> Sequence[model.Volume]:
        self._reach("list")
        ids = sorted(key for key in self._entries if key not in self.quarantined)
        return [self._entries[key].volume for key in ids if after is None or key > after][:limit]

    def validate(
        self, volume_id: model.VolumeId, capabilities: Sequence[model.Capability], parameters: dict[str, str]
    ) -> str | None:
        self._reach("validate")
        entry = self._entry(volume_id)
        if parameters and _own(parameters) != _own(entry.request.parameters):
            return "the volume was made with other parameters"
        try:
            self._check(capabilities, {})
        except errors.InvalidRequestError as refusal:
            return str(refusal)
        return None

    def capacity(
        self,
        *,
        capabilities: Sequence[model.Capability],
        parameters: dict[str, str],
        topology: model.Topology | None,
    ) -> model.Available:
        self._reach("capacity")
        self._check((), parameters)
        elsewhere = topology is not None and self._topology is not None and not self._topology.within(topology)
        if elsewhere or any(self._refusal(capability) for capability in capabilities):
            return model.Available(total=0, largest=0)
        return model.Available(total=self._free(), largest=self._free())

    def topology(self) -> model.Topology | None:
        return self._topology

    def locate(self, volume_id: model.VolumeId) -> Path:
        self._reach("locate")
        self._entry(volume_id)
        if self._data is None:
            raise errors.BackendUnavailableError("this backend keeps no data")
        place = self._data / str(volume_id)
        place.mkdir(exist_ok=True)
        return place

    def usage(self, volume_id: model.VolumeId) -> model.Usage:
        self._reach("usage")
        size = self._entry(volume_id).volume.size
        return model.Usage(total=size, used=0, available=size)

    def _entry(self, volume_id: model.VolumeId) -> _Entry:
        if volume_id in self.quarantined:
            raise errors.VolumeQuarantinedError(f"the record of volume {volume_id} is unreadable")
        try:
            return self._entries[volume_id]
        except KeyError:
            raise errors.VolumeNotFoundError(f"there is no volume {volume_id}") from None

    def _free(self) -> int:
        return self._size - sum(entry.volume.size for entry in self._entries.values())

    def _check(self, capabilities: Sequence[model.Capability], parameters: Mapping[str, str]) -> None:
        for capability in capabilities:
            if refusal := self._refusal(capability):
                raise errors.InvalidRequestError(refusal)
        for key in _own(parameters):
            if key not in self._known_parameters:
                raise errors.InvalidParameterError(f"the parameter {key} is unknown")

    def _refusal(self, capability: model.Capability) -> str | None:
        if capability.access_type is model.AccessType.BLOCK:
            return "block volumes are not offered"
        if self._topology is not None and capability.access_mode.spans_nodes:
            return f"{capability.access_mode.kubernetes_name} is not offered"
        return None


def _id_of(name: str) -> model.VolumeId:
    return model.VolumeId("mem-" + hashlib.sha256(name.encode()).hexdigest()[:32])


def _own(parameters: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in parameters.items() if not key.startswith(_METADATA)}
