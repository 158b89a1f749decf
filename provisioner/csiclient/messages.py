"""Values into CSI messages, and a driver's messages into values.

A stranger's driver is read generously: a size of 0, a topology that is absent and a capability from a later version
of CSI are all legal, and none of them is an error.
"""

from collections.abc import Iterable

from google.protobuf import descriptor

from provisioner import model
from provisioner.csiclient import api
from provisioner.generated import csi_pb2

_Modes = csi_pb2.VolumeCapability.AccessMode.Mode
_Services = csi_pb2.PluginCapability.Service.Type.DESCRIPTOR
_Expansions = csi_pb2.PluginCapability.VolumeExpansion.Type.DESCRIPTOR
_ControllerCalls = csi_pb2.ControllerServiceCapability.RPC.Type.DESCRIPTOR


def create_volume(request: model.VolumeRequest) -> csi_pb2.CreateVolumeRequest:
    """The message for CreateVolume; it holds secrets, so it is never logged."""
    message = csi_pb2.CreateVolumeRequest(
        name=request.name,
        volume_capabilities=[capability(item) for item in request.capabilities],
        parameters=request.parameters,
        secrets=request.secrets,
    )
    if request.size != model.SizeRange():
        message.capacity_range.required_bytes = request.size.required
        message.capacity_range.limit_bytes = request.size.limit
    if request.accessibility != model.Accessibility():
        message.accessibility_requirements.requisite.extend(map(topology, request.accessibility.requisite))
        message.accessibility_requirements.preferred.extend(map(topology, request.accessibility.preferred))
    if isinstance(request.source, model.SnapshotId):
        message.volume_content_source.snapshot.snapshot_id = str(request.source)
    elif request.source is not None:
        message.volume_content_source.volume.volume_id = str(request.source)
    return message


def capability(item: model.Capability) -> csi_pb2.VolumeCapability:
    """The message for one way of using a volume."""
    message = csi_pb2.VolumeCapability()
    message.access_mode.mode = _Modes.Value(item.access_mode.value)
    if item.access_type is model.AccessType.BLOCK:
        message.block.SetInParent()
    else:
        message.mount.SetInParent()
        message.mount.fs_type = item.fs_type
        message.mount.mount_flags.extend(item.mount_flags)
    return message


def topology(place: model.Topology) -> csi_pb2.Topology:
    """The message for one topology segment."""
    return csi_pb2.Topology(segments=dict(place.segments))


def volume(message: csi_pb2.Volume) -> model.Volume:
    """A driver's volume; its id is taken as it is, because a stranger's may be any text."""
    return model.Volume(
        id=model.VolumeId(message.volume_id),
        size=message.capacity_bytes,
        context=dict(message.volume_context),
        topologies=tuple(model.Topology.of(place.segments) for place in message.accessible_topology),
        source=_source(message.content_source),
    )


def available(message: csi_pb2.GetCapacityResponse) -> model.Available:
    """A driver's capacity; without a maximum the largest volume is all that there is."""
    total = message.available_capacity
    return model.Available(
        total=total,
        largest=message.maximum_volume_size.value if message.HasField("maximum_volume_size") else total,
        smallest=message.minimum_volume_size.value if message.HasField("minimum_volume_size") else 1,
    )


def node_info(message: csi_pb2.NodeGetInfoResponse) -> api.NodeInfo:
    """A driver's node."""
    return api.NodeInfo(
        node_id=message.node_id,
        topology=(
            model.Topology.of(message.accessible_topology.segments) if message.HasField("accessible_topology") else None
        ),
        max_volumes=message.max_volumes_per_node,
    )


def plugin_capabilities(message: csi_pb2.GetPluginCapabilitiesResponse) -> frozenset[str]:
    """The names of what the plugin offers."""
    services = (item.service.type for item in message.capabilities if item.HasField("service"))
    expansions = (item.volume_expansion.type for item in message.capabilities if item.HasField("volume_expansion"))
    return _names(_Services, services) | _names(_Expansions, expansions)


def controller_capabilities(message: csi_pb2.ControllerGetCapabilitiesResponse) -> frozenset[str]:
    """The names of what the Controller service offers."""
    return _names(_ControllerCalls, (item.rpc.type for item in message.capabilities))


def _source(message: csi_pb2.VolumeContentSource) -> model.SnapshotId | model.VolumeId | None:
    kind = message.WhichOneof("type")
    if kind == "snapshot":
        return model.SnapshotId(message.snapshot.snapshot_id)
    return model.VolumeId(message.volume.volume_id) if kind == "volume" else None


def _names(enum: descriptor.EnumDescriptor, numbers: Iterable[int]) -> frozenset[str]:
    known = {number: value.name for number, value in enum.values_by_number.items() if number != 0}
    return frozenset(known[number] for number in numbers if number in known)
