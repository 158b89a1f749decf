"""The API objects in use, each trimmed to the fields in use; what is not named here is never kept in memory.

The structs are frozen: a change is a patch sent to the API server, whose answer is the next struct. Python names are
snake_case, JSON names Kubernetes' own. Absent and empty are the same, as in Go.
"""

import dataclasses
import datetime
from collections.abc import Mapping
from typing import Any, Generic, TypeVar, dataclass_transform

import msgspec


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class _Struct(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel", gc=False):
    """What all have in common. No struct can be part of a reference cycle, so the collector need not look at any."""


class OwnerReference(_Struct):
    """Who is deleted together with whom."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool = False
    block_owner_deletion: bool = False


class ObjectMeta(_Struct):
    """`meta/v1 ObjectMeta`; `managedFields`, most of an object's bytes, is left out."""

    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: datetime.datetime | None = None
    deletion_timestamp: datetime.datetime | None = None
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    finalizers: tuple[str, ...] = ()
    owner_references: tuple[OwnerReference, ...] = ()

    @property
    def key(self) -> str:
        """`namespace/name`, or `name` for a cluster-scoped object: unique within a kind."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class Object(_Struct):
    """Any API object."""

    metadata: ObjectMeta


class ObjectReference(_Struct):
    """A reference to another object, as in `spec.claimRef` and in events."""

    api_version: str = ""
    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    resource_version: str = ""
    field_path: str = ""

    @property
    def key(self) -> str:
        """The cache key of what is referred to."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class TypedReference(_Struct):
    """A data source of a claim."""

    api_group: str = ""
    kind: str = ""
    name: str = ""
    namespace: str = ""


class SecretReference(_Struct):
    """Where a Secret is."""

    name: str = ""
    namespace: str = ""


class ResourceList(_Struct):
    """Amounts of resources; of claims and volumes only `storage` is of interest, a quantity (see `kube.quantity`)."""

    storage: str = ""


class ResourceRequirements(_Struct):
    """What a claim wants at least and at most."""

    requests: ResourceList = ResourceList()
    limits: ResourceList = ResourceList()


class ClaimSpec(_Struct):
    """`core/v1 PersistentVolumeClaimSpec`.

    Attributes:
        storage_class_name: `None` where it is absent, `""` where the claim wants no class at all.
        selector: `None` where it is absent; what is in it is of no interest.
    """

    access_modes: tuple[str, ...] = ()
    storage_class_name: str | None = None
    volume_name: str = ""
    volume_mode: str = "Filesystem"
    resources: ResourceRequirements = ResourceRequirements()
    selector: Mapping[str, Any] | None = None
    data_source: TypedReference | None = None
    data_source_ref: TypedReference | None = None
    volume_attributes_class_name: str | None = None


class ClaimStatus(_Struct):
    """`core/v1 PersistentVolumeClaimStatus`."""

    phase: str = ""
    access_modes: tuple[str, ...] = ()
    capacity: ResourceList = ResourceList()


class PersistentVolumeClaim(Object):
    """`core/v1 PersistentVolumeClaim`."""

    spec: ClaimSpec = ClaimSpec()
    status: ClaimStatus = ClaimStatus()


class NodeSelectorRequirement(_Struct):
    """One condition on a node's label."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


class NodeSelectorTerm(_Struct):
    """Conditions that must all hold."""

    match_expressions: tuple[NodeSelectorRequirement, ...] = ()
    match_fields: tuple[NodeSelectorRequirement, ...] = ()


class NodeSelector(_Struct):
    """Terms of which one must hold."""

    node_selector_terms: tuple[NodeSelectorTerm, ...] = ()


class VolumeNodeAffinity(_Struct):
    """The nodes from which a volume can be used; `required` absent: all."""

    required: NodeSelector | None = None


class CsiVolumeSource(_Struct):
    """`core/v1 CSIPersistentVolumeSource`."""

    driver: str
    volume_handle: str
    read_only: bool = False
    fs_type: str = ""
    volume_attributes: Mapping[str, str] = {}
    controller_publish_secret_ref: SecretReference | None = None
    node_stage_secret_ref: SecretReference | None = None
    node_publish_secret_ref: SecretReference | None = None
    controller_expand_secret_ref: SecretReference | None = None
    node_expand_secret_ref: SecretReference | None = None


class VolumeSpec(_Struct):
    """`core/v1 PersistentVolumeSpec`."""

    capacity: ResourceList = ResourceList()
    access_modes: tuple[str, ...] = ()
    persistent_volume_reclaim_policy: str = ""
    storage_class_name: str = ""
    volume_mode: str = "Filesystem"
    mount_options: tuple[str, ...] = ()
    claim_ref: ObjectReference | None = None
    node_affinity: VolumeNodeAffinity | None = None
    csi: CsiVolumeSource | None = None
    volume_attributes_class_name: str | None = None


class VolumeStatus(_Struct):
    """`core/v1 PersistentVolumeStatus`."""

    phase: str = ""


class PersistentVolume(Object):
    """`core/v1 PersistentVolume`."""

    spec: VolumeSpec = VolumeSpec()
    status: VolumeStatus = VolumeStatus()


class TopologySelectorRequirement(_Struct):
    """A topology key and the values allowed."""

    key: str
    values: tuple[str, ...] = ()


class TopologySelectorTerm(_Struct):
    """Requirements that must all hold."""

    match_label_expressions: tuple[TopologySelectorRequirement, ...] = ()


class StorageClass(Object):
    """`storage/v1 StorageClass`."""

    provisioner: str
    parameters: Mapping[str, str] = {}
    reclaim_policy: str = "Delete"
    mount_options: tuple[str, ...] = ()
    volume_binding_mode: str = "Immediate"
    allowed_topologies: tuple[TopologySelectorTerm, ...] = ()
    allow_volume_expansion: bool = False


class Node(Object):
    """`core/v1 Node`: its labels are all that is of interest."""


class CsiNodeDriver(_Struct):
    """One driver registered on a node."""

    name: str
    node_id: str = msgspec.field(name="nodeID", default="")
    topology_keys: tuple[str, ...] | None = ()  # null where there is none


class CsiNodeSpec(_Struct):
    """`storage/v1 CSINodeSpec`."""

    drivers: tuple[CsiNodeDriver, ...] | None = ()  # null until the first driver is registered


class CsiNode(Object):
    """`storage/v1 CSINode`: which drivers the kubelet of the node of this name knows."""

    spec: CsiNodeSpec = CsiNodeSpec()


class AttachmentSource(_Struct):
    """What is attached."""

    persistent_volume_name: str = ""


class AttachmentSpec(_Struct):
    """`storage/v1 VolumeAttachmentSpec`."""

    attacher: str
    node_name: str
    source: AttachmentSource = AttachmentSource()


class AttachmentStatus(_Struct):
    """`storage/v1 VolumeAttachmentStatus`."""

    attached: bool = False


class VolumeAttachment(Object):
    """`storage/v1 VolumeAttachment`."""

    spec: AttachmentSpec
    status: AttachmentStatus = AttachmentStatus()


class Secret(Object):
    """`core/v1 Secret`; `data` is decoded from base64, and never shown."""

    data: Mapping[str, bytes] = {}

    def __repr__(self) -> str:
        return f"Secret({self.metadata.key!r}, {len(self.data)} entries)"

    __str__ = __repr__


class EventSource(_Struct):
    """Who says it."""

    component: str = ""
    host: str = ""


class Event(Object):
    """`core/v1 Event`, with `count` and the first and last time as `kubectl describe` shows them."""

    involved_object: ObjectReference
    reason: str = ""
    message: str = ""
    type: str = ""
    count: int = 0
    first_timestamp: datetime.datetime | None = None
    last_timestamp: datetime.datetime | None = None
    source: EventSource = EventSource()
    reporting_component: str = ""
    reporting_instance: str = ""


T = TypeVar("T", bound=Object)


@dataclasses.dataclass(frozen=True)
class Kind(Generic[T]):
    """Where objects of one type are found in the API.

    Attributes:
        group: the API group, empty for the core one.
        plural: the resource's name in the URL, and in RBAC rules.
    """

    type: type[T]
    name: str
    plural: str
    namespaced: bool = False
    group: str = ""
    version: str = "v1"

    @property
    def api_version(self) -> str:
        """`group/version` as in an object's `apiVersion`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def reference(self, obj: T) -> ObjectReference:
        """What events and claimRefs call the object: uid included, so that a namesake is another one."""
        meta = obj.metadata
        return ObjectReference(
            api_version=self.api_version,
            kind=self.name,
            namespace=meta.namespace,
            name=meta.name,
            uid=meta.uid,
            resource_version=meta.resource_version,
        )


_STORAGE = "storage.k8s.io"

CLAIMS = Kind(PersistentVolumeClaim, "PersistentVolumeClaim", "persistentvolumeclaims", namespaced=True)
VOLUMES = Kind(PersistentVolume, "PersistentVolume", "persistentvolumes")
CLASSES = Kind(StorageClass, "StorageClass", "storageclasses", group=_STORAGE)
NODES = Kind(Node, "Node", "nodes")
CSI_NODES = Kind(CsiNode, "CSINode", "csinodes", group=_STORAGE)
ATTACHMENTS = Kind(VolumeAttachment, "VolumeAttachment", "volumeattachments", group=_STORAGE)
SECRETS = Kind(Secret, "Secret", "secrets", namespaced=True)
EVENTS = Kind(Event, "Event", "events", namespaced=True)
