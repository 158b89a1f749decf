"""Parts that several requests have, as values: ids, sizes, capabilities, places. `requests` and its siblings use them.

Errors are `errors.InvalidRequestError`.
"""

from collections.abc import Iterable

from provisioner import errors, model
from provisioner.csi import validate
from provisioner.generated import csi_pb2

_Mode = csi_pb2.VolumeCapability.AccessMode.Mode


def volume_id(text: str, field: str = "volume_id") -> model.VolumeId:
    """The id of a volume, which must be there."""
    validate.require(text, field)
    return model.VolumeId.parse(text)


def snapshot_id(text: str) -> model.SnapshotId:
    """The id of a snapshot, which must be there."""
    validate.require(text, "snapshot_id")
    return model.SnapshotId.parse(text)


def size(message: csi_pb2.CapacityRange) -> model.SizeRange:
    """The size asked for, in bytes; one of its limits is given."""
    required, limit = message.required_bytes, message.limit_bytes
    if required < 0 or limit < 0:
        raise errors.InvalidRequestError(f"the size is negative: required {required}, limit {limit} bytes")
    if required == limit == 0:
        raise errors.InvalidRequestError("capacity_range gives neither required_bytes nor limit_bytes")
    if limit and limit < required:
        raise errors.InvalidRequestError(f"the size's limit of {limit} bytes is below the required {required} bytes")
    return model.SizeRange(required, limit)


def capabilities(messages: Iterable[csi_pb2.VolumeCapability]) -> tuple[model.Capability, ...]:
    """Ways of using a volume."""
    return tuple(map(capability, messages))


def capability(message: csi_pb2.VolumeCapability) -> model.Capability:
    """One way of using a volume."""
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


def places(messages: Iterable[csi_pb2.Topology]) -> tuple[model.Topology, ...]:
    """Topology segments."""
    return tuple(model.Topology.of(message.segments) for message in messages)


def _access_mode(number: int) -> model.AccessMode:
    validate.require(number, "the access mode of a volume capability")
    value = _Mode.DESCRIPTOR.values_by_number.get(number)
    if value is None:
        raise errors.InvalidRequestError(f"access mode {number} is unknown to this driver")
    return model.AccessMode(value.name)
