"""RBD backends over a real Ceph cluster. Each test has its own instance, so that one pool serves them all."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import pytest

from provisioner import metrics, model
from provisioner.backends.rbd import backend as rbd
from provisioner.backends.rbd import config
from provisioner.backends.rbd.client import api, binding, connections, librbd
from tests.fakes import rbd_backend
from tests.harness import ceph as ceph_harness

NAMESPACE = "ours"
_numbers = itertools.count()


@dataclasses.dataclass(frozen=True)
class Pool:
    """A pool of a real cluster with two backends over it, as two processes have them."""

    backend: rbd.RbdBackend
    again: rbd.RbdBackend
    cluster: librbd.LibradosCluster

    def use(self, volume_id: model.VolumeId, request: pytest.FixtureRequest) -> None:
        """Open the image as a node does that writes."""
        image = self._open(volume_id)
        image.write(b"\0", 0)
        request.addfinalizer(image.close)

    def write(self, volume_id: model.VolumeId, text: str) -> None:
        image = self._open(volume_id)
        try:
            image.write(text.encode().ljust(512, b"\0"), 0)
            image.flush()
        finally:
            image.close()

    def read(self, volume_id: model.VolumeId) -> str:
        image = self._open(volume_id)
        try:
            return str(image.read(0, 512).rstrip(b"\0").decode())
        finally:
            image.close()

    def _open(self, volume_id: model.VolumeId) -> Any:
        context = self.backend.get(volume_id).context
        place = api.Place(context["pool"], context.get("radosNamespace", ""))
        return binding.load().rbd.Image(self.cluster.images(place).ioctx, context["imageName"])


def credentials(real: ceph_harness.CephCluster) -> api.Credentials:
    return api.Credentials(cluster="real", monitors=real.monitors, user=ceph_harness.USER, key=real.key)


def open_pool(request: pytest.FixtureRequest, directory: Path, *, namespace: str = "") -> Pool:
    """A pool for one test."""
    real: ceph_harness.CephCluster = request.getfixturevalue("ceph")
    if namespace and namespace not in real.rbd("namespace", "ls", ceph_harness.POOL):
        real.add_namespace(ceph_harness.POOL, namespace)
    instance = f"t{next(_numbers)}"
    first, second = (_backend(real, directory, instance) for _ in range(2))
    for each in (first, second):
        request.addfinalizer(each.close)
    return Pool(first, second, librbd.LibradosCluster(credentials(real)))


def _backend(real: ceph_harness.CephCluster, directory: Path, instance: str) -> rbd.RbdBackend:
    clusters = rbd_backend.write_clusters(directory / "clusters.yaml", credentials(real))
    cached = connections.Connections(librbd.LibradosCluster)
    return rbd.RbdBackend(config.RbdConfig(clusters=clusters, instance=instance), cached.get, metrics.Metrics())
