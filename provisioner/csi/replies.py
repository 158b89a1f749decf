"""Values into messages."""

from collections.abc import Iterable, Sequence

from google.protobuf import wrappers_pb2

from provisioner import model
from provisioner.csi import paging
from provisioner.generated import csi_pb2

_Usage = csi_pb2.VolumeUsage

Entry = tuple[model.Volume, model.Condition | None]
"""A volume of a listing, and its condition where it is known."""


def volume(found: model.Volume) -> csi_pb2.Volume:
    """One volume."""
    return csi_pb2.Volume(
        volume_id=str(found.id),
        capacity_bytes=found.size,
        volume_context=found.context,
        content_source=None if found.source is None else _source(found.source),
        accessible_topology=map(topology, found.topologies),
    )


def volume_page(page: Iterable[Entry], next_token: str) -> csi_pb2.ListVolumesResponse:
    """One page of volumes."""
    return csi_pb2.ListVolumesResponse(
        entries=[
            csi_pb2.ListVolumesResponse.Entry(
                volume=volume(found),
                status=(
                    None
                    if state is None
                    else csi_pb2.ListVolumesResponse.VolumeStatus(volume_condition=condition(state))
                ),
            )
            for found, state in page
        ],
        next_token=next_token,
    )


def one_volume(found: model.Volume, state: model.Condition | None) -> csi_pb2.ControllerGetVolumeResponse:
    """One volume and, where it is known, its condition."""
    return csi_pb2.ControllerGetVolumeResponse(
        volume=volume(found),
        status=csi_pb2.ControllerGetVolumeResponse.VolumeStatus(
            volume_condition=None if state is None else condition(state)
        ),
    )


def snapshot(found: model.Snapshot) -> csi_pb2.Snapshot:
    """One snapshot."""
    message = csi_pb2.Snapshot(
        snapshot_id=str(found.id),
        source_volume_id=str(found.source),
        size_bytes=found.size,
        ready_to_use=found.ready,
    )
    message.creation_time.FromDatetime(found.created)
    return message


def snapshot_page(found: Sequence[model.Snapshot], limit: int) -> csi_pb2.ListSnapshotsResponse:
    """At most `limit` of the snapshots found, and a token where there are more."""
    return csi_pb2.ListSnapshotsResponse(
        entries=[csi_pb2.ListSnapshotsResponse.Entry(snapshot=snapshot(item)) for item in found[:limit]],
        next_token=paging.next_token([item.id for item in found], limit),
    )


def validation(
    request: csi_pb2.ValidateVolumeCapabilitiesRequest, refusal: str | None
) -> csi_pb2.ValidateVolumeCapabilitiesResponse:
    """The answer to `request`: what was confirmed, or why nothing is."""
    if refusal is not None:
        return csi_pb2.ValidateVolumeCapabilitiesResponse(message=refusal)
    return csi_pb2.ValidateVolumeCapabilitiesResponse(
        confirmed=csi_pb2.ValidateVolumeCapabilitiesResponse.Confirmed(
            volume_capabilities=request.volume_capabilities, parameters=request.parameters
        )
    )


def capacity(room: model.Available) -> csi_pb2.GetCapacityResponse:
    """How much room there is, over all and for one volume."""
    return csi_pb2.GetCapacityResponse(
        available_capacity=room.total,
        maximum_volume_size=wrappers_pb2.Int64Value(value=room.largest),
        minimum_volume_size=wrappers_pb2.Int64Value(value=room.smallest),
    )


def node_info(node_id: str, place: model.Topology | None) -> csi_pb2.NodeGetInfoResponse:
    """The node; how many volumes it takes is left to Kubernetes."""
    return csi_pb2.NodeGetInfoResponse(node_id=node_id, accessible_topology=None if place is None else topology(place))


def stats(used: model.Usage, state: model.Condition | None) -> csi_pb2.NodeGetVolumeStatsResponse:
    """How full a volume is, and its condition where it is known; inodes are told only where they are limited."""
    return csi_pb2.NodeGetVolumeStatsResponse(
        usage=_usages(used), volume_condition=None if state is None else condition(state)
    )


def condition(state: model.Condition) -> csi_pb2.VolumeCondition:
    """Whether something is wrong with a volume."""
    return csi_pb2.VolumeCondition(abnormal=state.abnormal, message=state.message)


def topology(place: model.Topology) -> csi_pb2.Topology:
    """One topology segment."""
    return csi_pb2.Topology(segments=dict(place.segments))


def _source(source: model.SnapshotId | model.VolumeId) -> csi_pb2.VolumeContentSource:
    if isinstance(source, model.SnapshotId):
        kind = csi_pb2.VolumeContentSource.SnapshotSource(snapshot_id=str(source))
        return csi_pb2.VolumeContentSource(snapshot=kind)
    return csi_pb2.VolumeContentSource(volume=csi_pb2.VolumeContentSource.VolumeSource(volume_id=str(source)))


def _usages(used: model.Usage) -> Iterable[csi_pb2.VolumeUsage]:
    yield _Usage(unit=_Usage.BYTES, total=used.total, used=used.used, available=used.available)
    if used.inodes_total:
        yield _Usage(
            unit=_Usage.INODES,
            total=used.inodes_total,
            used=used.inodes_used,
            available=used.inodes_available,
        )
