"""A backend that keeps its volumes in a dictionary: fast, forgetful, and able to fail or hang on request.

It passes the same contract suite as the real ones, so that a test that uses it learns nothing false.
"""

import collections
import dataclasses
import datetime
import hashlib
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from provisioner import errors, model
from provisioner.backends import base

DEFAULT_SIZE = model.GIB
PLAIN = base.Features(capacity=True, single_node_multi_writer=True)
FULL = base.Features(
    expansion=True,
    snapshots=True,
    clones=True,
    publication=True,
    condition=True,
    capacity=True,
    single_node_multi_writer=True,
)
_METADATA = "csi.storage.k8s.io/"


@dataclasses.dataclass(frozen=True)
class _Entry:
    volume: model.Volume
    request: model.VolumeRequest


@dataclasses.dataclass(frozen=True)
class _Publication:
    capability: model.Capability
    read_only: bool


class MemoryBackend:
    """Volumes in memory.

    Args:
        features: what it offers; `topology` follows from the argument of that name. With `devices` it takes block
            volumes.
        nodes: the nodes that it knows; None for all that are asked for.

    Attributes:
        in_use: ids that `delete` refuses, as if they were mounted.
        quarantined: ids whose record is to be taken for unreadable.
        ill: what `condition` says of a volume, by its id; the others are healthy.
        published: the nodes that each volume was given to.
        calls: how often each step was reached.
    """

    def __init__(
        self,
        *,
        size: int = 100 * model.GIB,
        topology: model.Topology | None = None,
        data: Path | None = None,
        known_parameters: frozenset[str] = frozenset({"enforcement", "pool"}),
        features: base.Features = PLAIN,
        nodes: frozenset[str] | None = None,
    ) -> None:
        self._features = dataclasses.replace(features, topology=topology is not None)
        self._nodes = nodes
        self._size = size
        self._topology = topology
        self._data = data
        self._known_parameters = known_parameters
        self._entries: dict[model.VolumeId, _Entry] = {}
        self._snapshots: dict[model.SnapshotId, model.Snapshot] = {}
        self.published: dict[model.VolumeId, dict[str, _Publication]] = collections.defaultdict(dict)
        self.ill: dict[model.VolumeId, model.Condition] = {}
        self._hooks: dict[str, Callable[[], None]] = {}
        self._lock = threading.Lock()
        self.in_use: set[model.VolumeId] = set()
        self.quarantined: set[model.VolumeId] = set()
        self.calls: collections.Counter[str] = collections.Counter()

    def on(self, step: str, hook: Callable[[], None]) -> None:
        """Call `hook` whenever `step` is reached; it may raise, or wait for an event to make the call hang.

        The steps: "probe", "create", "created" (done, not yet answered), "delete", "deleted", "get", "list",
        "validate", "capacity", "locate", "usage", "expand", "create_snapshot", "delete_snapshot", "get_snapshot",
        "list_snapshots", "publish", "unpublish", "condition".
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
        return self._features

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
            and request.source == entry.request.source
        )
        if not same:
            raise errors.VolumeExistsError(f"volume {request.name} exists with other properties")
        return entry.volume

    def _make(self, request: model.VolumeRequest) -> model.Volume:
        least = self._least(request.source)
        size = max(least, request.size.required or min(DEFAULT_SIZE, request.size.limit or DEFAULT_SIZE))
        if request.size.limit and size > request.size.limit:
            raise errors.SizeOutOfRangeError(f"the source has {least} bytes, and at most {request.size.limit} may be")
        places = request.accessibility.requisite
        if self._topology and places and not any(self._topology.within(place) for place in places):
            raise errors.InsufficientCapacityError("none of the places asked for is here")
        if size > self._size:
            kind = errors.InsufficientCapacityError if self._topology else errors.SizeOutOfRangeError
            raise kind(f"{size} bytes are more than the {self._size} there are")
        if size > self._free():
            raise errors.InsufficientCapacityError(f"{self._free()} bytes are left, {size} were asked for")
        volume = model.Volume(
            id=_id_of(request.name),
            size=size,
            topologies=(self._topology,) if self._topology else (),
            source=request.source,
        )
        self._entries[volume.id] = _Entry(volume, request)
        self._copy(request.source, volume.id)
        return volume

    def _least(self, source: model.SnapshotId | model.VolumeId | None) -> int:
        """How large a volume must be to hold its source."""
        if source is None:
            return 0
        return self._snapshot(source).size if isinstance(source, model.SnapshotId) else self._entry(source).volume.size

    def _copy(
        self, source: model.SnapshotId | model.VolumeId | None, target: model.SnapshotId | model.VolumeId
    ) -> None:
        if self._data is not None and source is not None and (self._data / source.value).exists():
            shutil.copytree(self._data / source.value, self._data / target.value)

    def delete(self, volume_id: model.VolumeId) -> None:
        self._reach("delete")
        if volume_id in self.in_use or self.published.get(volume_id):
            raise errors.VolumeInUseError(f"volume {volume_id} is mounted")
        with self._lock:
            self._entries.pop(volume_id, None)
            self.published.pop(volume_id, None)
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

    def expand(self, volume_id: model.VolumeId, size: model.SizeRange) -> model.Volume:
        self._reach("expand")
        with self._lock:
            entry = self._entry(volume_id)
            if size.limit and entry.volume.size > size.limit:
                raise errors.SizeOutOfRangeError(f"volume {volume_id} has {entry.volume.size} bytes already")
            if size.required > self._size:
                raise errors.SizeOutOfRangeError(f"{size.required} bytes are more than the {self._size} there are")
            if size.required - entry.volume.size > self._free():
                raise errors.InsufficientCapacityError(f"{self._free()} bytes are left")
            grown = dataclasses.replace(entry.volume, size=max(entry.volume.size, size.required))
            self._entries[volume_id] = dataclasses.replace(entry, volume=grown)
        return grown

    def create_snapshot(self, request: model.SnapshotRequest) -> model.Snapshot:
        self._reach("create_snapshot")
        key = model.SnapshotId("snap-" + _digest(request.name))
        with self._lock:
            found = self._snapshots.get(key)
            if found is None:
                size = self._entry(request.source).volume.size
                now = datetime.datetime.now(datetime.UTC)
                found = model.Snapshot(id=key, source=request.source, size=size, created=now)
                self._snapshots[key] = found
                self._copy(request.source, key)
            elif found.source != request.source:
                raise errors.SnapshotExistsError(f"snapshot {request.name} is of volume {found.source}")
        return found

    def delete_snapshot(self, snapshot_id: model.SnapshotId) -> None:
        self._reach("delete_snapshot")
        with self._lock:
            self._snapshots.pop(snapshot_id, None)
            if self._data is not None:
                shutil.rmtree(self._data / snapshot_id.value, ignore_errors=True)

    def get_snapshot(self, snapshot_id: model.SnapshotId) -> model.Snapshot:
        self._reach("get_snapshot")
        return self._snapshot(snapshot_id)

    def list_snapshots(
        self, *, source: model.VolumeId | None, after: model.SnapshotId | None, limit: int
    ) -> Sequence[model.Snapshot]:
        self._reach("list_snapshots")
        found = (self._snapshots[key] for key in sorted(self._snapshots) if after is None or key > after)
        return [snapshot for snapshot in found if source in {None, snapshot.source}][:limit]

    def publish(
        self, volume_id: model.VolumeId, node: str, capability: model.Capability, *, read_only: bool
    ) -> dict[str, str]:
        self._reach("publish")
        self._entry(volume_id)
        if self._nodes is not None and node not in self._nodes:
            raise errors.NodeNotFoundError(f"there is no node {node}")
        holders, asked = self.published[volume_id], _Publication(capability, read_only)
        if holders.get(node, asked) != asked:
            raise errors.VolumeExistsError(f"volume {volume_id} is published to {node} for another use")
        others = sorted(set(holders) - {node})
        if others and not capability.access_mode.spans_nodes:
            raise errors.VolumeInUseError(f"volume {volume_id} is published to node {others[0]}")
        holders[node] = asked
        return {"node": node}

    def unpublish(self, volume_id: model.VolumeId, node: str) -> None:
        self._reach("unpublish")
        holders = self.published[volume_id]
        for name in [node] if node else list(holders):
            holders.pop(name, None)

    def condition(self, volume_id: model.VolumeId) -> model.Condition:
        self._reach("condition")
        self._entry(volume_id)
        return self.ill.get(volume_id, model.HEALTHY)

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

    def _snapshot(self, snapshot_id: model.SnapshotId) -> model.Snapshot:
        try:
            return self._snapshots[snapshot_id]
        except KeyError:
            raise errors.SnapshotNotFoundError(f"there is no snapshot {snapshot_id}") from None

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
        if capability.access_type is model.AccessType.BLOCK and not self._features.devices:
            return "block volumes are not offered"
        if self._topology is not None and capability.access_mode.spans_nodes:
            return f"{capability.access_mode.kubernetes_name} is not offered"
        return None


def _id_of(name: str) -> model.VolumeId:
    return model.VolumeId("mem-" + _digest(name))


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def _own(parameters: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in parameters.items() if not key.startswith(_METADATA)}
