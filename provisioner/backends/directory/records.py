"""A volume's record: `meta.json` beside its data, written once when the volume is made and moved with it.

Where the record lies tells the volume's state: in `staging` it is being made, in `volumes` it is ready, in `trash` it
is deleted. The record itself never changes, so no reader can see half of one.
"""

import os
from collections.abc import Iterable

import msgspec

from provisioner import errors, model
from provisioner.backends.directory import files, ids

NAME = "meta.json"
SCHEMA = 1
_LIMIT = 256 * model.KIB
_LARGEST_SIZE = 2**63 - 1
"""What CSI can say of a size, in bytes."""


class RecordedCapability(msgspec.Struct, frozen=True, order=True):
    """How a volume may be used. Mount options are left out: they may be secret, and are the PersistentVolume's."""

    access_mode: str
    access_type: str


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a volume.

    Attributes:
        name: chosen by the caller of CreateVolume.
        size: in bytes, as promised.
        parameters: the class's own.
        label: of the claim, for people.
        enforcement: how the size is kept; "none" for a plain directory.
        created: RFC 3339, UTC.
    """

    schema: int
    id: str
    name: str
    size: int
    capabilities: tuple[RecordedCapability, ...]
    parameters: dict[str, str]
    label: str
    enforcement: str
    node_name: str
    created: str


class _Head(msgspec.Struct):
    schema: int


_encoder = msgspec.json.Encoder()
_head_decoder = msgspec.json.Decoder(_Head)
_decoder = msgspec.json.Decoder(Record)


def describe_capabilities(capabilities: Iterable[model.Capability]) -> tuple[RecordedCapability, ...]:
    """What a record keeps of the capabilities: each kind of use once, in order."""
    return tuple(
        sorted(
            {
                RecordedCapability(capability.access_mode.value, capability.access_type.value)
                for capability in capabilities
            }
        )
    )


def encode(record: Record) -> bytes:
    """The record as it is stored."""
    return msgspec.json.format(_encoder.encode(record), indent=1) + b"\n"


def decode(data: bytes, volume: ids.DirectoryId) -> Record:
    """Read a stored record.

    Raises:
        errors.VolumeQuarantinedError: it is damaged, another volume's, or written by a newer program.
    """
    try:
        schema = _head_decoder.decode(data).schema
        if schema > SCHEMA:
            raise quarantined(volume, f"has schema {schema}, and this program knows {SCHEMA}", "run a newer program")
        record = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise quarantined(volume, f"cannot be read: {error}") from error
    if record.id != str(volume):
        raise quarantined(volume, f"is that of another volume, {record.id[:64]!a}")
    if not 0 < record.size <= _LARGEST_SIZE:
        raise quarantined(volume, f"promises {record.size} bytes")
    return record


def read(volume_dir: int, volume: ids.DirectoryId) -> Record:
    """Read the record in an open directory.

    Raises:
        errors.VolumeQuarantinedError: there is none, or it cannot be understood.
    """
    try:
        data = files.read(volume_dir, NAME, limit=_LIMIT)
    except OSError as error:
        raise quarantined(volume, f"cannot be opened: {error.strerror}") from error
    return decode(data, volume)


def create(volume_dir: int, record: Record) -> int:
    """Write the record into a new directory, not yet durably; returns it open, for locking and syncing."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(NAME, flags, 0o600, dir_fd=volume_dir)
    try:
        files.write(fd, encode(record))
    except BaseException:
        os.close(fd)
        raise
    return fd


def quarantined(volume: ids.DirectoryId, fault: str, remedy: str = "") -> errors.VolumeQuarantinedError:
    """The error that names one volume, and leaves its data alone."""
    return errors.VolumeQuarantinedError(
        f"volume {volume} is quarantined: its record {NAME} {fault}",
        remedy=remedy or f"mend or restore {NAME} in the volume's directory; the data beside it is untouched",
    )
