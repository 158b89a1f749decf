"""A node with the RBD backend over a real Ceph cluster, as a process that has just been started has it."""

import dataclasses
import itertools
import json
from collections.abc import Callable
from pathlib import Path

from provisioner import metrics, model
from provisioner.backends import commands
from provisioner.backends.rbd import clusters, context
from provisioner.backends.rbd import node as rbd_node
from provisioner.backends.rbd.attach import choice, processes, records
from provisioner.backends.rbd.client import api, connections, librbd
from provisioner.node import device_volumes, requests
from tests.fakes import rbd_backend
from tests.harness import ceph as ceph_harness

RWO = model.AccessMode.SINGLE_NODE_WRITER
FUSE = "qemu-storage-daemon"
_numbers = itertools.count()


def build(clusters_file: Path, state: Path, *, mounter: str = "fuse") -> rbd_node.RbdNode:
    """The backend of a node."""
    cached = connections.Connections(librbd.LibradosCluster)
    runner = commands.System()
    attachers = choice.Choice(choice.all_attachers(runner), metrics.Metrics(), preferred=mounter)
    return rbd_node.RbdNode(clusters.Clusters(clusters_file), cached.get, attachers, records.Records(state))


@dataclasses.dataclass(frozen=True)
class NodeHost:
    """Attributes: kubelet: where the staging and target paths are; state: where the node keeps its records."""

    real: ceph_harness.CephCluster
    kubelet: Path
    state: Path
    images: api.Images

    @property
    def clusters(self) -> Path:
        return self.kubelet.parent / "clusters.yaml"

    def backend(self) -> rbd_node.RbdNode:
        return build(self.clusters, self.state)

    def volumes(self, steps: Callable[[str], None] = lambda _step: None) -> device_volumes.DeviceVolumes:
        return device_volumes.DeviceVolumes(self.backend(), steps=steps)

    def make(self, mebibytes: int = 64) -> str:
        name = f"node-{next(_numbers)}"
        self.images.create(name, mebibytes << 20)
        return name

    def stage(
        self, image: str, *, fs_type: str = "ext4", capability: model.Capability | None = None, at: str = "staged"
    ) -> requests.StageRequest:
        wanted = context.Context(cluster="real", pool=self.images.place.pool, image=image)
        return requests.StageRequest(
            volume_id=model.VolumeId(image),
            staging=self.kubelet / f"{image}-{at}",
            capability=capability or model.Capability(access_mode=RWO, fs_type=fs_type),
            context=wanted.encode(),
            publish_context={},
        )

    def publish(
        self, image: str, *, capability: model.Capability | None = None, at: str = "pod"
    ) -> requests.PublishRequest:
        return requests.PublishRequest(
            volume_id=model.VolumeId(image),
            target=self.kubelet / f"{image}-{at}",
            capability=capability or model.Capability(access_mode=RWO, fs_type="ext4"),
            staging=self.kubelet / f"{image}-staged",
        )

    def daemon(self, image: str) -> int:
        return processes.find(FUSE, str(records.Records(self.state).folder(model.VolumeId(image))))

    def close(self) -> None:
        """Take away everything, in whatever state it is."""
        runner = commands.System()
        for place in self.kubelet.iterdir():
            while runner.run(["umount", "--lazy", place], accept=(0, 1, 32)).code == 0:
                continue
        backend = self.backend()
        for record in self.state.glob("*/record.json"):
            backend.detach(model.VolumeId(json.loads(record.read_text())["volume"]))


def write_clusters(real: ceph_harness.CephCluster, path: Path) -> None:
    given = api.Credentials(cluster="real", monitors=real.monitors, user=ceph_harness.USER, key=real.key)
    rbd_backend.write_clusters(path, given)
