"""The rules that every request is held to before anything is done, by the CSI specification's own words.

`check` walks a whole message by its descriptor, so that no field can be forgotten: sizes and control characters.
The other functions are the rules of single fields; `requests` says which field has to be there. Messages name the
field, never its value where that could be secret.
"""

import os.path
import re
from collections.abc import Mapping
from pathlib import Path

from google.protobuf import descriptor, message

from provisioner import errors
from provisioner.generated import csi_pb2

# CSI, "Size Limits": what holds unless a field says otherwise.
MAX_STRING = 128
MAX_MAP = 4096
# CSI says of target paths that 4096 bytes is what Linux takes, and of node ids that 256 bytes are allowed.
_LONGER = {
    "target_path": 4096,
    "staging_target_path": 4096,
    "volume_path": 4096,
    "node_id": 256,
}
_MAX_MOUNT_FLAGS = 4096
_MOUNT_FLAGS = csi_pb2.VolumeCapability.MountVolume.DESCRIPTOR.fields_by_name["mount_flags"]
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def check(request: message.Message) -> None:
    """Hold every string, list and map in the request, however deep, to its size.

    Raises:
        errors.InvalidRequestError: says which field, and how large it may be.
    """
    for field, value in request.ListFields():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            _check_map(field.name, value)
        elif field.message_type is not None:
            for item in value if field.is_repeated else [value]:
                check(item)
        elif field is _MOUNT_FLAGS:
            _check_mount_flags(value)
        elif field.type == descriptor.FieldDescriptor.TYPE_STRING:
            for text in value if field.is_repeated else [value]:
                _check_string(field.name, text)


def require(value: object, field: str) -> None:
    """Refuse a request that lacks a field.

    Raises:
        errors.InvalidRequestError: the field is absent or empty.
    """
    if not value:
        raise errors.InvalidRequestError(f"{field} is missing from the request")


def refuse(value: object, field: str, why: str) -> None:
    """Refuse a request that uses a field whose capability is not announced.

    Raises:
        errors.InvalidRequestError: the field is there; says `why` it must not be.
    """
    if value:
        raise errors.InvalidRequestError(f"{field} cannot be used: {why}")


def path(text: str, field: str) -> Path:
    """A path on the node that may be acted on: absolute, and spelled the one way that names it.

    Raises:
        errors.InvalidRequestError: it is relative, or holds `..`, `.`, `//` or a trailing slash.
    """
    require(text, field)
    if not text.startswith("/") or text.startswith("//") or text == "/" or os.path.normpath(text) != text:
        raise errors.InvalidRequestError(f"{field} {text!r} is not an absolute, normalised path")
    return Path(text)


def _check_string(field: str, text: str) -> None:
    limit = _LONGER.get(field, MAX_STRING)
    size = len(text.encode())
    if size > limit:
        raise errors.InvalidRequestError(f"{field} is {size} bytes long; it may have {limit}")
    if _CONTROL.search(text):
        raise errors.InvalidRequestError(f"{field} holds a control character")


def _check_map(field: str, entries: Mapping[str, str]) -> None:
    size = sum(len(key.encode()) + len(value.encode()) for key, value in entries.items())
    if size > MAX_MAP:
        raise errors.InvalidRequestError(f"{field} is {size} bytes large; it may have {MAX_MAP}")
    if any(_CONTROL.search(key) for key in entries):
        raise errors.InvalidRequestError(f"a key of {field} holds a control character")


def _check_mount_flags(flags: list[str]) -> None:
    size = sum(len(flag.encode()) for flag in flags)
    if size > _MAX_MOUNT_FLAGS:
        raise errors.InvalidRequestError(f"mount_flags are {size} bytes large; they may have {_MAX_MOUNT_FLAGS}")
    if any(_CONTROL.search(flag) for flag in flags):
        raise errors.InvalidRequestError("mount_flags hold a control character")
