"""A request as it may be logged: without what the CSI contract marks as secret.

What is secret is read from the descriptors (the option `csi_secret`), however deep the field lies, so that a field
which a later version of CSI adds is covered as well. Mount flags bear no such mark, but the specification says that
they may be sensitive, so they are kept back too.
"""

from typing import Any

from google.protobuf import descriptor, message

from provisioner.generated import csi_pb2

STRIPPED = "(stripped)"
_MOUNT_FLAGS = csi_pb2.VolumeCapability.MountVolume.DESCRIPTOR.fields_by_name["mount_flags"]


def loggable(request: message.Message) -> dict[str, Any]:
    """The fields that are set, as plain values; a secret one is named, but its value is `(stripped)`."""
    return {field.name: _value(field, value) for field, value in request.ListFields()}


def _value(field: descriptor.FieldDescriptor, value: Any) -> Any:
    if field is _MOUNT_FLAGS or field.GetOptions().Extensions[csi_pb2.csi_secret]:
        return STRIPPED
    if field.message_type is None:
        return list(value) if field.is_repeated else _scalar(field, value)
    if field.message_type.GetOptions().map_entry:
        entry = field.message_type.fields_by_name["value"]
        return {key: _value(entry, item) for key, item in value.items()}
    if field.is_repeated:
        return [loggable(item) for item in value]
    return loggable(value)


def _scalar(field: descriptor.FieldDescriptor, value: Any) -> Any:
    known = None if field.enum_type is None else field.enum_type.values_by_number.get(value)
    return value if known is None else known.name
