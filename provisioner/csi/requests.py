"""Messages into values. No value leaves here unchecked: each function holds its request to the rules of `validate`.

Errors are `errors.InvalidRequestError`, or what the function names besides.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

from provisioner import errors, model
from provisioner.csi import paging, validate
from provisioner.generated import csi_pb2
from provisioner.node import publisher

_Mode = csi_pb2.VolumeCapability.AccessMode.Mode


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
class Room:
    """What GetCapacity asks: the room for volumes of this kind in this place."""

    capabilities: tuple[model.Capability, ...]
    parameters: Mapping[str, str]
    topology: model.Topology | None


def create_volume(message: csi_pb2.CreateVolumeRequest) -> model.VolumeRequest:
    """Read CreateVolume. Copies and VolumeAttributesClasses are not announced, so they are refused here."""
    validate.check(message)
    validate.require(message.name, "name")
    validate.require(message.volume_capabilities, "volume_capabilities")
    validate.refuse(
        message.HasField("volume_content_source"),
        "volume_content_source",
        "this driver announces neither snapshots nor clones",
    )
    validate.refuse(
        message.mutable_parameters, "mutable_parameters", "this driver announces no VolumeAttributesClass support"
    )
    return model.VolumeRequest(
        name=message.name,
        size=_size(message),
        capabilities=_capabilities(message.volume_capabilities),
        parameters=dict(message.parameters),
        accessibility=model.Accessibility(
            requisite=_places(message.accessibility_requirements.requisite),
            preferred=_places(message.accessibility_requirements.preferred),
        ),
        secrets=dict(message.secrets),
    )


def volume_id(
    message: csi_pb2.DeleteVolumeRequest | csi_pb2.ControllerGetVolumeRequest,
) -> model.VolumeId:
    """Read a request that is about one volume and asks for nothing else."""
    validate.check(message)
    return _volume_id(message.volume_id)


def validate_capabilities(message: csi_pb2.ValidateVolumeCapabilitiesRequest) -> Validation:
    """Read ValidateVolumeCapabilities."""
    validate.check(message)
    parsed = _volume_id(message.volume_id)
    validate.require(message.volume_capabilities, "volume_capabilities")
    return Validation(
        parsed,
        _capabilities(message.volume_capabilities),
        dict(message.parameters),
        mutable=bool(message.mutable_parameters),
    )


def list_volumes(message: csi_pb2.ListVolumesRequest) -> Page:
    """Read ListVolumes.

    Raises:
        errors.InvalidPageTokenError: the token is none of ours.
    """
    if message.max_entries < 0:
        raise errors.InvalidRequestError(f"max_entries is {message.max_entries}; it may not be negative")
    return Page(paging.after(message.starting_token), paging.limit(message.max_entries))


def get_capacity(message: csi_pb2.GetCapacityRequest) -> Room:
    """Read GetCapacity."""
    validate.check(message)
    place = model.Topology.of(message.accessible_topology.segments)
    return Room(
        _capabilities(message.volume_capabilities),
        dict(message.parameters),
        place if message.HasField("accessible_topology") else None,
    )


def publish(message: csi_pb2.NodePublishVolumeRequest) -> publisher.PublishRequest:
    """Read NodePublishVolume."""
    validate.check(message)
    parsed = _volume_id(message.volume_id)
    target = validate.path(message.target_path, "target_path")
    validate.require(message.HasField("volume_capability"), "volume_capability")
    return publisher.PublishRequest(
        volume_id=parsed,
        target=target,
        capability=_capability(message.volume_capability),
        read_only=message.readonly,
    )


def unpublish(message: csi_pb2.NodeUnpublishVolumeRequest) -> tuple[model.VolumeId, Path]:
    """Read NodeUnpublishVolume: the volume, and the path to take it from."""
    validate.check(message)
    return _volume_id(message.volume_id), validate.path(message.target_path, "target_path")


def volume_stats(message: csi_pb2.NodeGetVolumeStatsRequest) -> tuple[model.VolumeId, Path]:
    """Read NodeGetVolumeStats: the volume, and the path where it is published.

    Raises:
        errors.VolumeNotFoundError: the path is relative, so no volume can be there (CSI wants NOT_FOUND for a path
            that holds another volume or none).
    """
    validate.check(message)
    parsed = _volume_id(message.volume_id)
    validate.require(message.volume_path, "volume_path")
    if not message.volume_path.startswith("/"):
        raise errors.VolumeNotFoundError(
            f"volume {parsed} is not at {message.volume_path!r}, which is no absolute path"
        )
    return parsed, validate.path(message.volume_path, "volume_path")


def _volume_id(text: str) -> model.VolumeId:
    validate.require(text, "volume_id")
    return model.VolumeId.parse(text)


def _size(message: csi_pb2.CreateVolumeRequest) -> model.SizeRange:
    if not message.HasField("capacity_range"):
        return model.SizeRange()
    required, limit = message.capacity_range.required_bytes, message.capacity_range.limit_bytes
    if required < 0 or limit < 0:
        raise errors.InvalidRequestError(f"the size is negative: required {required}, limit {limit} bytes")
    if required == limit == 0:
        raise errors.InvalidRequestError("capacity_range gives neither required_bytes nor limit_bytes")
    if limit and limit < required:
        raise errors.InvalidRequestError(f"the size's limit of {limit} bytes is below the required {required} bytes")
    return model.SizeRange(required, limit)


def _capabilities(messages: Iterable[csi_pb2.VolumeCapability]) -> tuple[model.Capability, ...]:
    return tuple(map(_capability, messages))


def _capability(message: csi_pb2.VolumeCapability) -> model.Capability:
    validate.require(message.WhichOneof("access_type"), "the access type (block or mount) of a volume capability")
    validate.refuse(
        message.mount.volume_mount_group,
        "volume_mount_group",
        "this driver does not announce VOLUME_MOUNT_GROUP; leave fsGroup to the kubelet",
    )
    block = message.HasField("block")
    return model.Capability(
        access_mode=_access_mode(message.access_mode.mode),
        access_type=model.AccessType.BLOCK if block else model.AccessType.MOUNT,
        fs_type=message.mount.fs_type,
        mount_flags=tuple(message.mount.mount_flags),
    )


def _access_mode(number: int) -> model.AccessMode:
    validate.require(number, "the access mode of a volume capability")
    value = _Mode.DESCRIPTOR.values_by_number.get(number)
    if value is None:
        raise errors.InvalidRequestError(f"access mode {number} is unknown to this driver")
    return model.AccessMode(value.name)


def _places(messages: Iterable[csi_pb2.Topology]) -> tuple[model.Topology, ...]:
    return tuple(model.Topology.of(message.segments) for message in messages)
