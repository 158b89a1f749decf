"""The Node service's messages into values; the rules are those of `csi.requests`."""

from pathlib import Path

from provisioner import errors, model
from provisioner.backends import base
from provisioner.csi import parts, validate
from provisioner.generated import csi_pb2
from provisioner.node import requests


def stage(message: csi_pb2.NodeStageVolumeRequest) -> requests.StageRequest:
    """Read NodeStageVolume."""
    validate.check(message)
    parsed = parts.volume_id(message.volume_id)
    staging = validate.path(message.staging_target_path, "staging_target_path")
    validate.require(message.HasField("volume_capability"), "volume_capability")
    return requests.StageRequest(
        volume_id=parsed,
        staging=staging,
        capability=parts.capability(message.volume_capability),
        context=dict(message.volume_context),
        publish_context=dict(message.publish_context),
        secrets=dict(message.secrets),
    )


def unstage(message: csi_pb2.NodeUnstageVolumeRequest) -> tuple[model.VolumeId, Path]:
    """Read NodeUnstageVolume: the volume, and the path to take it from."""
    validate.check(message)
    return parts.volume_id(message.volume_id), validate.path(message.staging_target_path, "staging_target_path")


def publish(message: csi_pb2.NodePublishVolumeRequest, features: base.Features) -> requests.PublishRequest:
    """Read NodePublishVolume.

    Raises:
        errors.NotReadyError: volumes are staged first, and the request does not say where this one was.
    """
    validate.check(message)
    parsed = parts.volume_id(message.volume_id)
    target = validate.path(message.target_path, "target_path")
    validate.require(message.HasField("volume_capability"), "volume_capability")
    return requests.PublishRequest(
        volume_id=parsed,
        target=target,
        capability=parts.capability(message.volume_capability),
        read_only=message.readonly,
        staging=_staging(message, features),
        context=dict(message.volume_context),
        publish_context=dict(message.publish_context),
        secrets=dict(message.secrets),
    )


def unpublish(message: csi_pb2.NodeUnpublishVolumeRequest) -> tuple[model.VolumeId, Path]:
    """Read NodeUnpublishVolume: the volume, and the path to take it from."""
    validate.check(message)
    return parts.volume_id(message.volume_id), validate.path(message.target_path, "target_path")


def volume_stats(message: csi_pb2.NodeGetVolumeStatsRequest) -> tuple[model.VolumeId, Path]:
    """Read NodeGetVolumeStats: the volume, and the path where it is published.

    Raises:
        errors.VolumeNotFoundError: the path is relative, so no volume can be there.
    """
    validate.check(message)
    parsed = parts.volume_id(message.volume_id)
    return parsed, _volume_path(parsed, message.volume_path)


def expand(message: csi_pb2.NodeExpandVolumeRequest) -> requests.ExpandRequest:
    """Read NodeExpandVolume.

    Raises:
        errors.VolumeNotFoundError: the path is relative, so no volume can be there.
    """
    validate.check(message)
    parsed = parts.volume_id(message.volume_id)
    path = _volume_path(parsed, message.volume_path)
    staging = message.staging_target_path
    return requests.ExpandRequest(
        volume_id=parsed,
        path=path,
        staging=validate.path(staging, "staging_target_path") if staging else None,
        size=parts.size(message.capacity_range) if message.HasField("capacity_range") else model.SizeRange(),
        capability=parts.capability(message.volume_capability) if message.HasField("volume_capability") else None,
    )


def _staging(message: csi_pb2.NodePublishVolumeRequest, features: base.Features) -> Path | None:
    if not features.devices:
        return None
    if not message.staging_target_path:
        # The code that CSI has for this is not the one for other fields that are missing.
        raise errors.NotReadyError("staging_target_path is missing from the request", remedy="stage the volume first")
    return validate.path(message.staging_target_path, "staging_target_path")


def _volume_path(volume_id: model.VolumeId, text: str) -> Path:
    """CSI wants NOT_FOUND for a path that holds another volume or none."""
    validate.require(text, "volume_path")
    if not text.startswith("/"):
        raise errors.VolumeNotFoundError(f"volume {volume_id} is not at {text!r}, which is no absolute path")
    return validate.path(text, "volume_path")
