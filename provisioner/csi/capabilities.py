"""What the services announce: exactly what the backend offers, no more and no less."""

from typing import TypeVar

from provisioner import errors
from provisioner.backends import base
from provisioner.generated import csi_pb2

_Part = TypeVar("_Part")
_Plugin = csi_pb2.PluginCapability
_Controller = csi_pb2.ControllerServiceCapability
_Node = csi_pb2.NodeServiceCapability


def plugin(features: base.Features, *, controller: bool) -> csi_pb2.GetPluginCapabilitiesResponse:
    """What the plugin as a whole offers."""
    offered = {
        _Plugin.Service.CONTROLLER_SERVICE: controller,
        _Plugin.Service.VOLUME_ACCESSIBILITY_CONSTRAINTS: features.topology,
    }
    reply = csi_pb2.GetPluginCapabilitiesResponse(
        capabilities=[_Plugin(service=_Plugin.Service(type=kind)) for kind, yes in offered.items() if yes]
    )
    if features.expansion:
        reply.capabilities.add().volume_expansion.type = _Plugin.VolumeExpansion.ONLINE
    return reply


def controller(features: base.Features) -> csi_pb2.ControllerGetCapabilitiesResponse:
    """What the Controller service offers."""
    offered = {
        _Controller.RPC.CREATE_DELETE_VOLUME: True,
        _Controller.RPC.LIST_VOLUMES: True,
        _Controller.RPC.GET_VOLUME: True,
        _Controller.RPC.GET_CAPACITY: features.capacity,
        _Controller.RPC.EXPAND_VOLUME: features.expansion,
        _Controller.RPC.CREATE_DELETE_SNAPSHOT: features.snapshots,
        _Controller.RPC.LIST_SNAPSHOTS: features.snapshots,
        _Controller.RPC.GET_SNAPSHOT: features.snapshots,
        _Controller.RPC.CLONE_VOLUME: features.clones,
        _Controller.RPC.PUBLISH_UNPUBLISH_VOLUME: features.publication,
        _Controller.RPC.PUBLISH_READONLY: features.publication,
        _Controller.RPC.VOLUME_CONDITION: features.condition,
        _Controller.RPC.SINGLE_NODE_MULTI_WRITER: features.single_node_multi_writer,
    }
    return csi_pb2.ControllerGetCapabilitiesResponse(
        capabilities=[_Controller(rpc=_Controller.RPC(type=kind)) for kind, yes in offered.items() if yes]
    )


def node(features: base.Features) -> csi_pb2.NodeGetCapabilitiesResponse:
    """What the Node service offers."""
    offered = {
        _Node.RPC.STAGE_UNSTAGE_VOLUME: features.devices,
        _Node.RPC.EXPAND_VOLUME: features.devices and features.expansion,
        _Node.RPC.GET_VOLUME_STATS: True,
        _Node.RPC.VOLUME_CONDITION: features.devices and features.condition,
        _Node.RPC.SINGLE_NODE_MULTI_WRITER: features.single_node_multi_writer,
    }
    return csi_pb2.NodeGetCapabilitiesResponse(
        capabilities=[_Node(rpc=_Node.RPC(type=kind)) for kind, yes in offered.items() if yes]
    )


def need(offered: _Part | None, what: str) -> _Part:
    """The part that serves a call; a call whose capability is not announced is refused before its request is read.

    Raises:
        errors.UnsupportedError: the part is absent or false; says `what` the storage lacks.
    """
    if not offered:
        raise errors.UnsupportedError(f"this storage does not offer {what}")
    return offered
