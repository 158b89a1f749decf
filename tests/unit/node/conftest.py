"""A node whose volumes lie on a small filesystem of their own, and a kubelet directory beside it."""

import dataclasses
from pathlib import Path

import pytest

from provisioner import model
from provisioner.backends.directory import backend
from provisioner.node import publisher as publishing
from provisioner.node import requests
from tests.fakes import directory_pools, mounts


@dataclasses.dataclass(frozen=True)
class Host:
    """Attributes: pods: where the targets are."""

    backend: backend.DirectoryBackend
    publisher: publishing.Publisher
    pods: Path

    def volume(self, name: str = "pvc-1", capability: model.Capability = directory_pools.RWO) -> model.VolumeId:
        """Make a volume."""
        return self.backend.create(directory_pools.request(name, capabilities=(capability,))).id

    def request(
        self,
        volume_id: model.VolumeId,
        pod: str = "pod-1",
        *,
        mode: model.AccessMode = model.AccessMode.SINGLE_NODE_WRITER,
        flags: tuple[str, ...] = (),
        read_only: bool = False,
    ) -> requests.PublishRequest:
        """Ask for a volume at the pod's own path."""
        return requests.PublishRequest(
            volume_id=volume_id,
            target=self.pods / pod,
            capability=model.Capability(access_mode=mode, mount_flags=flags),
            read_only=read_only,
        )


@pytest.fixture
def host(tmp_path: Path) -> Host:
    mounts.enter_private_namespace()
    (tmp_path / "disk").mkdir()
    (tmp_path / "kubelet").mkdir()
    mounts.tmpfs(tmp_path / "disk")
    mounts.tmpfs(tmp_path / "kubelet")
    (tmp_path / "kubelet" / "pods").mkdir()
    made = directory_pools.directory_backend(tmp_path / "disk")
    return Host(made, publishing.Publisher(made), tmp_path / "kubelet" / "pods")
