"""The Controller's messages about volumes into values.

No value leaves here unchecked: each function holds its request to the rules of `validate`. Errors are
`errors.InvalidRequestError`, or what the function names besides.
"""

import dataclasses
from collections.abc import Mapping

from provisioner import errors, model
from provisioner.backends import base
from provisioner.csi import paging, parts, validate
from provisioner.generated import csi_pb2


@dataclasses.dataclass(frozen=True, slots=True)
class Validation:
    """What ValidateVolumeCapabilities asks.

    Attributes:
        mutable: the request names parameters of a VolumeAttributesClass.
    """

    volume_id: model.VolumeId
    capabilities: tuple[model.Capability, ...]
    parameters: Mapping[str, str]
    mutable: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """What ListVolumes asks: at most `limit` volumes behind `after`."""

    after: model.VolumeId | None
    limit: int


@dataclasses.dataclass(frozen=True, slots=True)
class Growth:
    """What ControllerExpandVolume asks: the volume, at least this large."""

    volume_id: model.VolumeId
    size: model.SizeRange


@dataclasses.dataclass(frozen=True, slots=True)
class Publication:
    """What ControllerPublishVolume asks: the volume for this node, to be used so."""

    volume_id: model.VolumeId
    node: str
    capability: model.Capability
    read_only: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Room:
    """What GetCapacity asks: the room for volumes of this kind in this place."""

    capabilities: tuple[model.Capability, ...]
    parameters: Mapping[str, str]
    topology: model.Topology | None


def create_volume(message: csi_pb2.CreateVolumeRequest, features: base.Features) -> model.VolumeRequest:
    """Read CreateVolume. What `features` do not announce is refused here."""
    validate.check(message)
    validate.require(message.name, "name")
    validate.require(message.volume_capabilities, "volume_capabilities")
    validate.refuse(
        message.mutable_parameters, "mutable_parameters", "this driver announces no VolumeAttributesClass support"
    )
    return model.VolumeRequest(
        name=message.name,
        size=parts.size(message.capacity_range) if message.HasField("capacity_range") else model.SizeRange(),
        capabilities=parts.capabilities(message.volume_capabilities),
        parameters=dict(message.parameters),
        accessibility=model.Accessibility(
            requisite=parts.places(message.accessibility_requirements.requisite),
            preferred=parts.places(message.accessibility_requirements.preferred),
        ),
        source=_source(message, features),
        secrets=dict(message.secrets),
    )


def volume_id(
    message: csi_pb2.DeleteVolumeRequest | csi_pb2.ControllerGetVolumeRequest,
) -> model.VolumeId:
    """Read a request that is about one volume and asks for nothing else."""
    validate.check(message)
    return parts.volume_id(message.volume_id)


def validate_capabilities(message: csi_pb2.ValidateVolumeCapabilitiesRequest) -> Validation:
    """Read ValidateVolumeCapabilities."""
    validate.check(message)
    parsed = parts.volume_id(message.volume_id)
    validate.require(message.volume_capabilities, "volume_capabilities")
    return Validation(
        parsed,
        parts.capabilities(message.volume_capabilities),
        dict(message.parameters),
        mutable=bool(message.mutable_parameters),
    )


def list_volumes(message: csi_pb2.ListVolumesRequest) -> Page:
    """Read ListVolumes.

    Raises:
        errors.InvalidPageTokenError: the token is none of ours.
    """
    return Page(paging.after(message.starting_token, model.VolumeId), paging.limit(message.max_entries))


def expand_volume(message: csi_pb2.ControllerExpandVolumeRequest) -> Growth:
    """Read ControllerExpandVolume. How the volume is used makes no difference; it is held to the rules all the same."""
    validate.check(message)
    parsed = parts.volume_id(message.volume_id)
    validate.require(message.HasField("capacity_range"), "capacity_range")
    if message.HasField("volume_capability"):
        parts.capability(message.volume_capability)
    return Growth(parsed, parts.size(message.capacity_range))


def publish_volume(message: csi_pb2.ControllerPublishVolumeRequest) -> Publication:
    """Read ControllerPublishVolume."""
    validate.check(message)
    parsed = parts.volume_id(message.volume_id)
    validate.require(message.node_id, "node_id")
    validate.require(message.HasField("volume_capability"), "volume_capability")
    return Publication(parsed, message.node_id, parts.capability(message.volume_capability), message.readonly)


def unpublish_volume(message: csi_pb2.ControllerUnpublishVolumeRequest) -> tuple[model.VolumeId, str]:
    """Read ControllerUnpublishVolume: the volume, and the node; empty for every node."""
    validate.check(message)
    return parts.volume_id(message.volume_id), message.node_id


def get_capacity(message: csi_pb2.GetCapacityRequest) -> Room:
    """Read GetCapacity."""
    validate.check(message)
    place = model.Topology.of(message.accessible_topology.segments)
    return Room(
        parts.capabilities(message.volume_capabilities),
        dict(message.parameters),
        place if message.HasField("accessible_topology") else None,
    )


def _source(message: csi_pb2.CreateVolumeRequest, features: base.Features) -> model.SnapshotId | model.VolumeId | None:
    if not message.HasField("volume_content_source"):
        return None
    source = message.volume_content_source
    kind = source.WhichOneof("type")
    if kind == "snapshot":
        validate.refuse(not features.snapshots, "volume_content_source", "this driver announces no snapshots")
        return parts.snapshot_id(source.snapshot.snapshot_id)
    if kind == "volume":
        validate.refuse(not features.clones, "volume_content_source", "this driver does not announce CLONE_VOLUME")
        return parts.volume_id(source.volume.volume_id, "the source volume's volume_id")
    raise errors.InvalidRequestError("volume_content_source names neither a snapshot nor a volume")
