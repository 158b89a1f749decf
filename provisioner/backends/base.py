"""The contract between the program and a kind of storage.

A backend is synchronous and may block: `provisioner.volumes` calls it in a bounded executor, one call per volume at a
time within this process. Other processes may use the same storage at the same time, and the process may be killed at
any step: every method is therefore idempotent, and a call that was cut short is finished or undone by its repetition.

`tests/contract` holds the suite that every backend passes. Errors are those of `provisioner.errors`; a backend
raises nothing else on purpose.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from provisioner import model


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """What a backend offers beyond create, delete, get and list. The CSI capabilities follow from it, exactly.

    Attributes:
        topology: volumes are reachable from some places only, and say so.
        capacity: `capacity()` knows how much room there is.
        single_node_multi_writer: tells ReadWriteOnce and ReadWriteOncePod apart (CSI SINGLE_NODE_MULTI_WRITER).
    """

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
            errors.VolumeExistsError: the name exists with another size, capability or parameters.
            errors.SizeOutOfRangeError: no volume of this size can exist in this storage, wherever it is asked for.
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
