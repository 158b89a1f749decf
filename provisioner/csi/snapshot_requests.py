"""The Controller's messages about snapshots into values; the rules are those of `csi.requests`."""

import dataclasses

from provisioner import model
from provisioner.csi import paging, parts, validate
from provisioner.generated import csi_pb2


@dataclasses.dataclass(frozen=True, slots=True)
class Search:
    """What ListSnapshots asks: one snapshot, those of one volume, or all; at most `limit` of them, behind `after`."""

    snapshot: model.SnapshotId | None
    source: model.VolumeId | None
    after: model.SnapshotId | None
    limit: int


def create_snapshot(message: csi_pb2.CreateSnapshotRequest) -> model.SnapshotRequest:
    """Read CreateSnapshot."""
    validate.check(message)
    validate.require(message.name, "name")
    source = parts.volume_id(message.source_volume_id, "source_volume_id")
    validate.refuse(
        message.HasField("accessibility_requirements"),
        "accessibility_requirements",
        "this driver does not announce SNAPSHOT_ACCESSIBILITY_CONSTRAINTS",
    )
    return model.SnapshotRequest(
        name=message.name, source=source, parameters=dict(message.parameters), secrets=dict(message.secrets)
    )


def snapshot_id(message: csi_pb2.DeleteSnapshotRequest | csi_pb2.GetSnapshotRequest) -> model.SnapshotId:
    """Read a request that is about one snapshot and asks for nothing else."""
    validate.check(message)
    return parts.snapshot_id(message.snapshot_id)


def list_snapshots(message: csi_pb2.ListSnapshotsRequest) -> Search:
    """Read ListSnapshots.

    Raises:
        errors.InvalidPageTokenError: the token is none of ours.
    """
    validate.check(message)
    snapshot, source = message.snapshot_id, message.source_volume_id
    return Search(
        parts.snapshot_id(snapshot) if snapshot else None,
        parts.volume_id(source, "source_volume_id") if source else None,
        paging.after(message.starting_token, model.SnapshotId),
        paging.limit(message.max_entries),
    )
