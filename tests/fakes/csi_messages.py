"""CSI requests that are valid, for tests that spoil one thing at a time."""

from provisioner.generated import csi_pb2

Mode = csi_pb2.VolumeCapability.AccessMode.Mode


def capability(mode: str = "SINGLE_NODE_WRITER", *, block: bool = False) -> csi_pb2.VolumeCapability:
    message = csi_pb2.VolumeCapability()
    message.access_mode.mode = Mode.Value(mode)
    (message.block if block else message.mount).SetInParent()
    return message


def create(
    name: str = "pvc-1", *, size: int = 1 << 20, source: csi_pb2.VolumeContentSource | None = None
) -> csi_pb2.CreateVolumeRequest:
    return csi_pb2.CreateVolumeRequest(
        name=name,
        capacity_range=csi_pb2.CapacityRange(required_bytes=size),
        volume_capabilities=[capability()],
        volume_content_source=source,
    )


def from_volume(volume_id: str) -> csi_pb2.VolumeContentSource:
    return csi_pb2.VolumeContentSource(volume=csi_pb2.VolumeContentSource.VolumeSource(volume_id=volume_id))


def from_snapshot(snapshot_id: str) -> csi_pb2.VolumeContentSource:
    return csi_pb2.VolumeContentSource(snapshot=csi_pb2.VolumeContentSource.SnapshotSource(snapshot_id=snapshot_id))


def snapshot(volume_id: str, name: str = "snapshot-1") -> csi_pb2.CreateSnapshotRequest:
    return csi_pb2.CreateSnapshotRequest(source_volume_id=volume_id, name=name)


def expand(volume_id: str, *, size: int = 1 << 21) -> csi_pb2.ControllerExpandVolumeRequest:
    return csi_pb2.ControllerExpandVolumeRequest(
        volume_id=volume_id, capacity_range=csi_pb2.CapacityRange(required_bytes=size)
    )


def attach(volume_id: str, node: str = "node-1") -> csi_pb2.ControllerPublishVolumeRequest:
    return csi_pb2.ControllerPublishVolumeRequest(volume_id=volume_id, node_id=node, volume_capability=capability())


def stage(volume_id: str = "vol-1", staging: str = "/staging") -> csi_pb2.NodeStageVolumeRequest:
    return csi_pb2.NodeStageVolumeRequest(
        volume_id=volume_id, staging_target_path=staging, volume_capability=capability()
    )


def publish(volume_id: str = "vol-1", target: str = "/pods/1/mount") -> csi_pb2.NodePublishVolumeRequest:
    return csi_pb2.NodePublishVolumeRequest(volume_id=volume_id, target_path=target, volume_capability=capability())
