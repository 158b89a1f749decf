"""A node whose volumes are loop devices, in a mount namespace of the test process's own."""

import dataclasses
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from provisioner import model
from provisioner.backends.rbd.attach import loops
from provisioner.node import device_volumes, requests
from tests.fakes import loop_backend, mounts

RWO = model.AccessMode.SINGLE_NODE_WRITER
BLOCK = model.Capability(access_mode=RWO, access_type=model.AccessType.BLOCK)


@dataclasses.dataclass(frozen=True)
class DeviceHost:
    """Attributes: kubelet: where the staging and target paths are."""

    backend: loop_backend.LoopBackend
    folder: Path
    kubelet: Path

    def volumes(self, steps: Callable[[str], None] = lambda _step: None) -> device_volumes.DeviceVolumes:
        """The node's half, as a process that has just been started has it."""
        return device_volumes.DeviceVolumes(loop_backend.LoopBackend(self.folder), steps=steps)

    def stage(
        self,
        volume_id: model.VolumeId,
        *,
        at: str = "staged",
        fs_type: str = "ext4",
        mode: model.AccessMode = RWO,
        flags: tuple[str, ...] = (),
        capability: model.Capability | None = None,
        mkfs: str = "",
    ) -> requests.StageRequest:
        wanted = capability or model.Capability(access_mode=mode, fs_type=fs_type, mount_flags=flags)
        return requests.StageRequest(
            volume_id=volume_id,
            staging=self.kubelet / at,
            capability=wanted,
            context={"mkfsOptions": mkfs} if mkfs else {},
            publish_context={},
        )

    def publish(
        self,
        volume_id: model.VolumeId,
        *,
        at: str = "pod-1",
        staged: str = "staged",
        read_only: bool = False,
        capability: model.Capability | None = None,
        mode: model.AccessMode = RWO,
    ) -> requests.PublishRequest:
        return requests.PublishRequest(
            volume_id=volume_id,
            target=self.kubelet / at,
            capability=capability or model.Capability(access_mode=mode, fs_type="ext4"),
            read_only=read_only,
            staging=self.kubelet / staged,
        )

    def close(self) -> None:
        """Take away what a failed test left attached; the mounts go with the namespace, but not the loop devices."""
        for place in sorted(self.kubelet.iterdir()):
            while subprocess.run(["umount", place], capture_output=True, check=False).returncode == 0:
                continue
        for file in self.folder.glob("*.img"):
            device = loops.find(file)
            if device is not None:
                subprocess.run(["losetup", "-d", device], capture_output=True, check=False)


def read_only(path: Path) -> bool:
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[DeviceHost]:
    """Such a node; a module that wants it says `host = device_host.host`."""
    mounts.enter_private_namespace()
    for name in ("volumes", "kubelet"):
        (tmp_path / name).mkdir()
    made = DeviceHost(loop_backend.LoopBackend(tmp_path / "volumes"), tmp_path / "volumes", tmp_path / "kubelet")
    yield made
    made.close()
