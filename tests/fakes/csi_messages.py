"""CSI requests that are valid, for tests that spoil one thing at a time."""

from provisioner.generated import csi_pb2

Mode = csi_pb2.VolumeCapability.AccessMode.Mode


def capability(mode: str = "SINGLE_NODE_WRITER", *, block: bool = False) -> csi_pb2.VolumeCapability:
    message = csi_pb2.VolumeCapability()
    message.access_mode.mode = Mode.Value(mode)
    (message.block if block else message.mount).SetInParent()
    return message


def create(name: str = "pvc-1", *, size: int = 1 << 20) -> csi_pb2.CreateVolumeRequest:
    return csi_pb2.CreateVolumeRequest(
        name=name,
        capacity_range=csi_pb2.CapacityRange(required_bytes=size),
        volume_capabilities=[capability()],
    )


def publish(volume_id: str = "vol-1", target: str = "/pods/1/mount") -> csi_pb2.NodePublishVolumeRequest:
    return csi_pb2.NodePublishVolumeRequest(volume_id=volume_id, target_path=target, volume_capability=capability())
