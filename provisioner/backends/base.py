"""The contract between the program and a kind of storage.

A backend is synchronous and may block: `provisioner.volumes` calls it in a bounded executor, one call that changes a
volume at a time within this process; calls that only copy it may run side by side. Other processes may use the same
storage at the same time, and the process may be killed at any step: every method is therefore idempotent, and a call
that was cut short is finished or undone by its repetition.

`tests/contract` holds the suite that every backend passes. Errors are those of `provisioner.errors`; a backend
raises nothing else on purpose.
"""

import dataclasses
import enum
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from provisioner import model


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """What a backend offers beyond create, delete, get and list. The CSI capabilities follow from it, exactly.

    A backend that sets one of the first four is the protocol of that name, too.

    Attributes:
        expansion: `Expansion`: volumes can grow, in use or not.
        snapshots: `Snapshots`: and volumes can be restored from them.
        clones: a volume can be made from another volume (`VolumeRequest.source`).
        publication: `Publication`: a volume is given to one node before that node can use it.
        devices: the node's half is `DeviceBackend`: volumes are block devices, staged once per node.
        condition: `condition()` knows whether something is wrong with a volume.
        topology: volumes are reachable from some places only, and say so.
        capacity: `capacity()` knows how much room there is.
        single_node_multi_writer: tells ReadWriteOnce and ReadWriteOncePod apart (CSI SINGLE_NODE_MULTI_WRITER).
    """

    expansion: bool = False
    snapshots: bool = False
    clones: bool = False
    publication: bool = False
    devices: bool = False
    condition: bool = False
    topology: bool = False
    capacity: bool = False
    single_node_multi_writer: bool = False


class Backend(Protocol):
    """Makes, finds and removes volumes."""

    @property
    def features(self) -> Features:
        """What this backend offers; constant for the life of the process."""

    def probe(self) -> None:
        """Prove that the storage can be used now, by using it; cheap enough to be called every few seconds.

        Raises:
            errors.BackendUnavailableError: it cannot, and why.
        """

    def create(self, request: model.VolumeRequest) -> model.Volume:
        """Make the volume `request.name`, or find it where it exists already.

        Returns only complete volumes: one that was half made by an interrupted call is finished or made anew.

        Raises:
            errors.InvalidRequestError: a capability or parameter that this storage cannot serve.
            errors.VolumeExistsError: the name exists with another size, capability, source or parameters.
            errors.VolumeNotFoundError: the source is a volume, and there is none of this id.
            errors.SnapshotNotFoundError: the source is a snapshot, and there is none of this id.
            errors.SizeOutOfRangeError: no volume of this size can exist in this storage, wherever it is asked for; or
                the source is larger than `request.size.limit`.
            errors.InsufficientCapacityError: no room now, or here: there may be some later, or elsewhere.
            errors.BackendUnavailableError: try the same call again later.
        """

    def delete(self, volume_id: model.VolumeId) -> None:
        """Remove the volume; what it held goes to the trash. A volume that does not exist is not an error.

        Raises:
            errors.VolumeInUseError: it is mounted or watched somewhere; it is untouched.
            errors.BackendUnavailableError: try the same call again later.
        """

    def get(self, volume_id: model.VolumeId) -> model.Volume:
        """The volume of this id.

        Raises:
            errors.VolumeNotFoundError: there is none (also for an id that is another backend's or pool's).
            errors.VolumeQuarantinedError: its record is unreadable.
        """

    def list(self, *, after: model.VolumeId | None, limit: int) -> Sequence[model.Volume]:
        """At most `limit` complete volumes in the order of their ids, beginning behind `after`.

        `after` need not exist any more. A quarantined volume is left out. Fewer than `limit` means the end.
        """

    def validate(
        self, volume_id: model.VolumeId, capabilities: Sequence[model.Capability], parameters: dict[str, str]
    ) -> str | None:
        """Why the volume cannot be used in one of these ways, for a reader; None where it can in all.

        Raises:
            errors.VolumeNotFoundError: there is no such volume.
        """

    def capacity(
        self,
        *,
        capabilities: Sequence[model.Capability],
        parameters: dict[str, str],
        topology: model.Topology | None,
    ) -> model.Available:
        """The room for volumes of this kind, in this place; nothing where the place is not this backend's.

        Raises:
            errors.InvalidRequestError: a parameter that no class may have.
        """


@runtime_checkable
class Expansion(Protocol):
    """Makes volumes larger."""

    def expand(self, volume_id: model.VolumeId, size: model.SizeRange) -> model.Volume:
        """Make the volume at least `size.required` bytes large; one that is large enough is left as it is.

        Raises:
            errors.VolumeNotFoundError: there is no such volume.
            errors.SizeOutOfRangeError: it is larger than `size.limit` already, or no volume can be that large.
            errors.InsufficientCapacityError: there is no room for it.
        """


@runtime_checkable
class Snapshots(Protocol):
    """Takes, finds and removes snapshots."""

    def create_snapshot(self, request: model.SnapshotRequest) -> model.Snapshot:
        """Take the snapshot `request.name`, or find it where it exists already.

        Raises:
            errors.VolumeNotFoundError: there is no such source.
            errors.SnapshotExistsError: the name is that of a snapshot of another volume.
        """

    def delete_snapshot(self, snapshot_id: model.SnapshotId) -> None:
        """Remove the snapshot; volumes restored from it stay usable. One that does not exist is not an error.

        Raises:
            errors.SnapshotInUseError: it cannot go before those volumes do.
        """

    def get_snapshot(self, snapshot_id: model.SnapshotId) -> model.Snapshot:
        """The snapshot of this id.

        Raises:
            errors.SnapshotNotFoundError: there is none.
        """

    def list_snapshots(
        self, *, source: model.VolumeId | None, after: model.SnapshotId | None, limit: int
    ) -> Sequence[model.Snapshot]:
        """At most `limit` snapshots, of one volume or of all, in the order of their ids, beginning behind `after`."""


@runtime_checkable
class Publication(Protocol):
    """Gives volumes to nodes (CSI ControllerPublishVolume), and keeps a single writer single."""

    def publish(
        self, volume_id: model.VolumeId, node: str, capability: model.Capability, *, read_only: bool
    ) -> dict[str, str]:
        """Let the node use the volume; returns the publish context that its node calls get. Idempotent.

        Raises:
            errors.VolumeNotFoundError: there is no such volume.
            errors.NodeNotFoundError: there is no such node; raised only where the storage can know.
            errors.VolumeExistsError: this node has it already, for another use.
            errors.VolumeInUseError: another node has it, and the access mode allows one only; says which and where.
        """

    def unpublish(self, volume_id: model.VolumeId, node: str) -> None:
        """Take the volume from the node, from every node where `node` is empty. Idempotent."""


@runtime_checkable
class Conditions(Protocol):
    """Knows whether something is wrong with a volume."""

    def condition(self, volume_id: model.VolumeId) -> model.Condition:
        """What is wrong with the volume, as far as the storage can tell.

        Raises:
            errors.VolumeNotFoundError: there is no such volume.
        """


class NodeBackend(Protocol):
    """What a node has to know of a volume to give it to a Pod."""

    def topology(self) -> model.Topology | None:
        """Where this node stands; None where every node reaches every volume."""

    def locate(self, volume_id: model.VolumeId) -> Path:
        """The directory on this node that holds the volume's data, to be bind-mounted into the Pod.

        Raises:
            errors.VolumeNotFoundError: the volume is not on this node.
            errors.BackendUnavailableError: it is, but cannot be used now.
        """

    def usage(self, volume_id: model.VolumeId) -> model.Usage:
        """How full the volume is, against its own size.

        Raises:
            errors.VolumeNotFoundError: the volume is not on this node.
        """


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """What `DeviceBackend.attach` is asked for.

    Attributes:
        context: of the volume, as `model.Volume.context` gave it.
        publish_context: as `Publication.publish` gave it; empty where nothing attaches.
        read_only: the device must not take writes.
        shared: other nodes may write at the same time (raw block with ReadWriteMany only).
        secrets: of the class, where it names some; never logged, never stored.
    """

    volume_id: model.VolumeId
    context: dict[str, str]
    publish_context: dict[str, str]
    read_only: bool = False
    shared: bool = False
    secrets: dict[str, str] = dataclasses.field(default_factory=dict, repr=False, compare=False)


class Formatted(enum.Enum):
    """What is known of the filesystem on a volume, beside what the device shows."""

    NEVER = "never"
    BEGUN = "begun"
    DONE = "done"


class DeviceBackend(Protocol):
    """What a node has to know of volumes that are block devices. `provisioner.node` makes filesystems and mounts.

    Devices are found again from what the system says, never from memory: the process may have been restarted.
    """

    def topology(self) -> model.Topology | None:
        """Where this node stands; None where every node reaches every volume."""

    def attach(self, attachment: Attachment) -> Path:
        """The block device on this node that is the volume, attached where it was not. Idempotent.

        Raises:
            errors.VolumeNotFoundError: there is no such volume.
            errors.VolumeInUseError: another node has it; says which and where.
            errors.BackendUnavailableError: it cannot be attached now, and why.
        """

    def device(self, volume_id: model.VolumeId) -> Path | None:
        """The device that is the volume on this node; None where it is not attached."""

    def detach(self, volume_id: model.VolumeId) -> None:
        """Take the device away, what it holds written out. Idempotent; also for a volume that is gone.

        Raises:
            errors.VolumeInUseError: something on this node still uses the device.
        """

    def refresh(self, volume_id: model.VolumeId) -> int:
        """Let the device show the volume's present size; returns it in bytes. Idempotent.

        Raises:
            errors.VolumeNotFoundError: the volume is not attached here.
        """

    def formatted(self, volume_id: model.VolumeId) -> Formatted:
        """What was recorded with the volume by `record_format`; a restored or cloned volume is what its source was."""

    def record_format(self, volume_id: model.VolumeId, state: Formatted) -> None:
        """Record with the volume itself that a filesystem is being made on it, or was made."""

    def condition(self, volume_id: model.VolumeId) -> model.Condition:
        """What is wrong with the attached device: its daemon is dead, its client is blocklisted, it was detached."""
