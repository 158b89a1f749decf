"""The values that the halves of the program exchange: no I/O, no protobuf, no Kubernetes objects.

The words are those of the CSI specification (1.12, "Terminology") and of the Kubernetes API.
"""

import dataclasses
import datetime
import enum
import re
from collections.abc import Mapping
from typing import Self

from provisioner import errors

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

_ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?!\.)){0,126}", re.ASCII)


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class VolumeId:
    """What names a volume from CreateVolume to DeleteVolume (CSI: `volume_id`, Kubernetes: `volumeHandle`).

    An id is at most 127 bytes of letters, digits, `-`, `_` and single dots, so it can never be a path, an option or a
    log injection. Which ids a backend hands out, and what their parts mean, is the backend's own affair.
    """

    value: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an id that came from outside.

        Raises:
            errors.InvalidRequestError: the text cannot be a volume id of any backend.
        """
        return cls(_parse_id(text, "volume"))

    def __str__(self) -> str:
        return self.value


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class SnapshotId:
    """What names a snapshot from CreateSnapshot to DeleteSnapshot (CSI: `snapshot_id`); its form is a `VolumeId`'s."""

    value: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an id that came from outside.

        Raises:
            errors.InvalidRequestError: the text cannot be a snapshot id of any backend.
        """
        return cls(_parse_id(text, "snapshot"))

    def __str__(self) -> str:
        return self.value


def _parse_id(text: str, what: str) -> str:
    if _ID.fullmatch(text) is None:
        shown = ascii(text[:40]) + ("…" if len(text) > 40 else "")  # noqa: PLR2004
        raise errors.InvalidRequestError(
            f"{what} id {shown} is malformed: it is up to 127 letters, digits, '-', '_' and single dots"
        )
    return text


class AccessMode(enum.Enum):
    """Who may use a volume at once (CSI VolumeCapability.AccessMode.Mode), by the specification's own names."""

    SINGLE_NODE_WRITER = "SINGLE_NODE_WRITER"
    SINGLE_NODE_READER_ONLY = "SINGLE_NODE_READER_ONLY"
    MULTI_NODE_READER_ONLY = "MULTI_NODE_READER_ONLY"
    MULTI_NODE_SINGLE_WRITER = "MULTI_NODE_SINGLE_WRITER"
    MULTI_NODE_MULTI_WRITER = "MULTI_NODE_MULTI_WRITER"
    SINGLE_NODE_SINGLE_WRITER = "SINGLE_NODE_SINGLE_WRITER"
    SINGLE_NODE_MULTI_WRITER = "SINGLE_NODE_MULTI_WRITER"

    @property
    def spans_nodes(self) -> bool:
        """Whether several nodes may use the volume at once."""
        return self.value.startswith("MULTI_NODE")

    @property
    def kubernetes_name(self) -> str:
        """The mode as a developer writes it in a claim."""
        return _KUBERNETES_MODES[self]


_KUBERNETES_MODES = {
    AccessMode.SINGLE_NODE_WRITER: "ReadWriteOnce",
    AccessMode.SINGLE_NODE_READER_ONLY: "ReadOnlyMany",
    AccessMode.MULTI_NODE_READER_ONLY: "ReadOnlyMany",
    AccessMode.MULTI_NODE_SINGLE_WRITER: "ReadWriteMany",
    AccessMode.MULTI_NODE_MULTI_WRITER: "ReadWriteMany",
    AccessMode.SINGLE_NODE_SINGLE_WRITER: "ReadWriteOncePod",
    AccessMode.SINGLE_NODE_MULTI_WRITER: "ReadWriteOnce",
}


class AccessType(enum.Enum):
    """How a Pod sees a volume (CSI VolumeCapability.access_type; Kubernetes: `volumeMode`)."""

    MOUNT = "mount"
    BLOCK = "block"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    """One way in which a volume is to be used (CSI VolumeCapability).

    Attributes:
        fs_type: the filesystem asked for; empty where the backend may choose. Only for `AccessType.MOUNT`.
        mount_flags: mount options, in the order given; may be sensitive, so they are never logged.
    """

    access_mode: AccessMode
    access_type: AccessType = AccessType.MOUNT
    fs_type: str = ""
    mount_flags: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class SizeRange:
    """The size asked for, in bytes (CSI CapacityRange): at least `required`, at most `limit`.

    Zero means "not given" for either, as in the specification. The values were checked when they came in:
    neither is negative, and where both are given, `required <= limit`.
    """

    required: int = 0
    limit: int = 0

    def accepts(self, size: int) -> bool:
        """Whether a volume of `size` bytes is what was asked for."""
        return size >= self.required and (self.limit == 0 or size <= self.limit)


@dataclasses.dataclass(frozen=True, slots=True)
class Topology:
    """One topology segment: where a volume can be reached, or a node stands (CSI Topology).

    Attributes:
        segments: key and value pairs, sorted by key, so that equal places are equal values.
    """

    segments: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, segments: Mapping[str, str]) -> Self:
        """The segment with these keys and values."""
        return cls(tuple(sorted(segments.items())))

    def within(self, other: Self) -> bool:
        """Whether this place satisfies everything that `other` demands."""
        return set(other.segments) <= set(self.segments)


@dataclasses.dataclass(frozen=True, slots=True)
class Accessibility:
    """Where a new volume must be reachable (CSI TopologyRequirement).

    Attributes:
        requisite: the volume must be reachable from at least one of these; empty means anywhere.
        preferred: tried first, in this order.
    """

    requisite: tuple[Topology, ...] = ()
    preferred: tuple[Topology, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VolumeRequest:
    """What CreateVolume asks for.

    Attributes:
        name: the caller's own name for the volume; the same name is always the same volume (CSI: idempotency).
        parameters: of the StorageClass, `csi.storage.k8s.io/` metadata included.
        source: what the volume's first content is: a snapshot (restore) or another volume (clone); None: nothing.
        secrets: never logged, never stored, left out of comparisons with an existing volume.
    """

    name: str
    size: SizeRange
    capabilities: tuple[Capability, ...]
    parameters: Mapping[str, str] = dataclasses.field(default_factory=dict)
    accessibility: Accessibility = Accessibility()
    source: SnapshotId | VolumeId | None = None
    secrets: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False, compare=False)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A volume that exists and is complete (CSI Volume).

    Attributes:
        size: in bytes, exact: what was promised and what the PersistentVolume says.
        context: handed to the node with every call; never a secret, never an address.
        topologies: from where it can be reached; empty means everywhere.
        source: what its first content was.
    """

    id: VolumeId
    size: int
    context: Mapping[str, str] = dataclasses.field(default_factory=dict)
    topologies: tuple[Topology, ...] = ()
    source: SnapshotId | VolumeId | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotRequest:
    """What CreateSnapshot asks for.

    Attributes:
        name: the caller's own name for the snapshot; the same name is always the same snapshot (CSI: idempotency).
        parameters: of the VolumeSnapshotClass.
        secrets: never logged, never stored.
    """

    name: str
    source: VolumeId
    parameters: Mapping[str, str] = dataclasses.field(default_factory=dict)
    secrets: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False, compare=False)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A snapshot that was taken (CSI Snapshot).

    Attributes:
        size: bytes that a volume restored from it has at least.
        created: when the source was cut, with its timezone.
        ready: whether it can be restored from now; where not, it will be.
    """

    id: SnapshotId
    source: VolumeId
    size: int
    created: datetime.datetime
    ready: bool = True


@dataclasses.dataclass(frozen=True, slots=True)
class Condition:
    """Whether something is wrong with a volume that works or should work (CSI VolumeCondition)."""

    abnormal: bool
    message: str


HEALTHY = Condition(abnormal=False, message="in working order")


@dataclasses.dataclass(frozen=True, slots=True)
class Available:
    """The room for new volumes (CSI GetCapacityResponse).

    Attributes:
        total: bytes that can still be promised, over all volumes.
        largest: bytes of the largest single volume that can be made now.
        smallest: bytes of the smallest volume that can be made.
    """

    total: int
    largest: int
    smallest: int = 1


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """How full one volume is (CSI VolumeUsage): bytes, and inodes where they are limited.

    `total` is the volume's own size, never the pool's. `inodes_total` is 0 where inodes are not limited.
    """

    total: int
    used: int
    available: int
    inodes_total: int = 0
    inodes_used: int = 0
    inodes_available: int = 0
