"""Values into messages."""

from collections.abc import Iterable, Sequence

from google.protobuf import wrappers_pb2

from provisioner import model
from provisioner.backends import base
from provisioner.csi import paging
from provisioner.generated import csi_pb2

_Plugin = csi_pb2.PluginCapability
_Controller = csi_pb2.ControllerServiceCapability
_Node = csi_pb2.NodeServiceCapability
_Usage = csi_pb2.VolumeUsage


def plugin_capabilities(features: base.Features, *, controller: bool) -> csi_pb2.GetPluginCapabilitiesResponse:
    """What the plugin as a whole offers."""
    offered = {
        _Plugin.Service.CONTROLLER_SERVICE: controller,
        _Plugin.Service.VOLUME_ACCESSIBILITY_CONSTRAINTS: features.topology,
    }
    return csi_pb2.GetPluginCapabilitiesResponse(
        capabilities=[_Plugin(service=_Plugin.Service(type=kind)) for kind, yes in offered.items() if yes]
    )


def controller_capabilities(features: base.Features) -> csi_pb2.ControllerGetCapabilitiesResponse:
    """What the Controller service offers."""
    offered = {
        _Controller.RPC.CREATE_DELETE_VOLUME: True,
        _Controller.RPC.LIST_VOLUMES: True,
        _Controller.RPC.GET_VOLUME: True,
        _Controller.RPC.GET_CAPACITY: features.capacity,
        _Controller.RPC.SINGLE_NODE_MULTI_WRITER: features.single_node_multi_writer,
    }
    return csi_pb2.ControllerGetCapabilitiesResponse(
        capabilities=[_Controller(rpc=_Controller.RPC(type=kind)) for kind, yes in offered.items() if yes]
    )


def node_capabilities(features: base.Features) -> csi_pb2.NodeGetCapabilitiesResponse:
    """What the Node service offers."""
    offered = {
        _Node.RPC.GET_VOLUME_STATS: True,
        _Node.RPC.SINGLE_NODE_MULTI_WRITER: features.single_node_multi_writer,
    }
    return csi_pb2.NodeGetCapabilitiesResponse(
        capabilities=[_Node(rpc=_Node.RPC(type=kind)) for kind, yes in offered.items() if yes]
    )


def volume(found: model.Volume) -> csi_pb2.Volume:
    """One volume; none of ours is a copy, so it has no content source."""
    return csi_pb2.Volume(
        volume_id=str(found.id),
        capacity_bytes=found.size,
        volume_context=found.context,
        accessible_topology=map(topology, found.topologies),
    )


def volume_page(found: Sequence[model.Volume], limit: int) -> csi_pb2.ListVolumesResponse:
    """At most `limit` of the volumes found, and a token where there are more."""
    page = found[:limit]
    return csi_pb2.ListVolumesResponse(
        entries=[csi_pb2.ListVolumesResponse.Entry(volume=volume(item)) for item in page],
        next_token=paging.token(page[-1].id) if len(found) > limit else "",
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


def usage(used: model.Usage) -> csi_pb2.NodeGetVolumeStatsResponse:
    """How full a volume is; inodes are told only where they are limited."""
    return csi_pb2.NodeGetVolumeStatsResponse(usage=_usages(used))


def topology(place: model.Topology) -> csi_pb2.Topology:
    """One topology segment."""
    return csi_pb2.Topology(segments=dict(place.segments))


def _usages(used: model.Usage) -> Iterable[csi_pb2.VolumeUsage]:
    yield _Usage(unit=_Usage.BYTES, total=used.total, used=used.used, available=used.available)
    if used.inodes_total:
        yield _Usage(
            unit=_Usage.INODES,
            total=used.inodes_total,
            used=used.inodes_used,
            available=used.inodes_available,
        )
