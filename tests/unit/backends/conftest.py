"""A pool on a small filesystem of its own, and a backend on it whose clock the test moves."""

import dataclasses
from pathlib import Path

import pytest

from provisioner import metrics, model
from provisioner.backends.directory import backend as directory
from tests.fakes import directory_pools, mounts


@dataclasses.dataclass(frozen=True)
class Pool:
    """Attributes: root: of the pool `fast`, below the mounted filesystem."""

    root: Path
    backend: directory.DirectoryBackend
    clock: directory_pools.Clock
    measured: metrics.Metrics

    def again(self) -> directory.DirectoryBackend:
        """Another process's backend on the same pool."""
        return directory_pools.directory_backend(self.root.parent, clock=self.clock, initialise=False)

    def home(self, volume_id: model.VolumeId) -> Path:
        """The directory of a volume, with its record and data."""
        return self.root / "volumes" / volume_id.value

    def names(self, place: str) -> list[str]:
        """What lies in one of the pool's directories."""
        return sorted(entry.name for entry in (self.root / place).iterdir())

    def room(self) -> int:
        """Bytes that can still be promised."""
        return self.backend.capacity(capabilities=(), parameters={}, topology=None).total


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """An empty filesystem of 16 MiB."""
    mounts.enter_private_namespace()
    disk = tmp_path / "disk"
    disk.mkdir()
    mounts.tmpfs(disk)
    return disk


@pytest.fixture
def pool(disk: Path) -> Pool:
    clock, measured = directory_pools.Clock(), metrics.Metrics()
    made = directory_pools.directory_backend(disk, clock=clock, measured=measured)
    return Pool(disk / "fast", made, clock, measured)
