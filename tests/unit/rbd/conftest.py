"""One Ceph cluster in memory, and a backend over it."""

import dataclasses
import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from provisioner import metrics, model
from provisioner.backends.rbd import backend, names
from provisioner.backends.rbd.client import api
from tests.fakes import directory_pools, rbd_backend, rbd_state

PLACE = api.Place(rbd_backend.POOL)


def request(name: str = "pvc-1", *, parameters: dict[str, str] | None = None, **changed: Any) -> model.VolumeRequest:
    """A request of a class that names the pool."""
    return directory_pools.request(name, parameters={**rbd_backend.CLASS, **(parameters or {})}, **changed)


@dataclasses.dataclass
class Pool:
    """A pool, a backend over it, and another one as another process has it."""

    ceph: rbd_state.Ceph
    directory: Path
    measured: metrics.Metrics = dataclasses.field(default_factory=metrics.Metrics)

    def __post_init__(self) -> None:
        self.backend = self.open()

    def open(
        self,
        *,
        instance: str = "k8s",
        is_out_of_service: Callable[[str], bool] = lambda _node: False,
        retention: datetime.timedelta = datetime.timedelta(days=1),
        depth_limit: int = 4,
        snapshot_limit: int = 450,
    ) -> backend.RbdBackend:
        return rbd_backend.rbd_backend(
            self.ceph,
            self.directory,
            instance=instance,
            measured=self.measured,
            is_out_of_service=is_out_of_service,
            retention=retention,
            depth_limit=depth_limit,
            snapshot_limit=snapshot_limit,
        )

    def image(self, name: str) -> rbd_state.Image:
        return self.ceph.image(PLACE, name)

    def listed(self) -> list[str]:
        return sorted(image.name for image in self.ceph.images(PLACE))

    def trashed(self) -> list[str]:
        return sorted(image.trash.name for image in self.ceph.everything if image.trash is not None)

    def volumes(self) -> list[str]:
        return [volume.context["imageName"] for volume in self.backend.list(after=None, limit=100)]

    def make_foreign(self, name: str, **metadata: str) -> rbd_state.Image:
        """An image that somebody else made."""
        self.ceph.half_make(PLACE, name)
        image = self.ceph.everything[-1]
        image.whole, image.size, image.metadata = True, model.MIB, dict(metadata)
        return image

    def metadata(self, name: str) -> dict[str, str]:
        """What the image says of itself, without our prefix."""
        return {key.removeprefix(names.PREFIX): value for key, value in self.image(name).metadata.items()}


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    return Pool(rbd_state.Ceph(), tmp_path)
