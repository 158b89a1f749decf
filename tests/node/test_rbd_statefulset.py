"""The StatefulSet story on a real Ceph cluster: each Pod has an image of its own, and the next one finds its data."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import ceph, image_build, init, needs, process
from tests.node import conftest
from tests.node.test_statefulset import ready_replicas, uid

pytestmark = pytest.mark.timeout(600)

_EXAMPLE = Path(image_build.ROOT, "deploy/examples/rbd/statefulset.yaml").read_text()
_PODS = ("web-0", "web-1")
_CONTROLLER = "deployment/provisioner-rbd-controller"
_NODE = "daemonset/provisioner-rbd-node"


@dataclasses.dataclass
class RbdCluster(conftest.Cluster):
    """A cluster whose volumes are images."""

    storage: ceph.CephCluster

    def write_secret(self) -> None:
        """Say where the Ceph cluster is, as its operator does."""
        entry = {"clusterID": "main", "monitors": list(self.storage.monitors), "user": ceph.USER}
        content = json.dumps([{**entry, "key": self.storage.key}])
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "rbd-clusters", "namespace": conftest.SYSTEM},
            "stringData": {"clusters.yaml": content},
        }
        self.plane.apply(json.dumps(secret))

    def roll_out(self, workload: str) -> None:
        """Wait until all Pods of a workload are Ready."""
        rollout = ("rollout", "status", workload, f"--namespace={conftest.SYSTEM}", "--timeout=90s")
        self.plane.kubectl(*rollout, seconds=100)

    def images(self) -> set[str]:
        """The images in the pool."""
        return set(self.storage.rbd("ls", ceph.POOL).split())

    def pages(self, namespace: str) -> dict[str, str]:
        """What each Pod serves."""
        return {pod: self.node.http_get(namespace, pod) for pod in _PODS}

    def wait_until_served(self, namespace: str) -> None:
        """Wait until both Pods of the StatefulSet are Ready."""
        process.wait_until(lambda: ready_replicas(self, namespace) == 2, seconds=90, what="both Pods to be Ready")


@pytest.fixture(scope="module")
def rbd_cluster() -> Iterator[RbdCluster]:
    """A cluster with the overlay `rbd`, and a Ceph cluster that its Pods reach."""
    needs.require(needs.NODE)
    needs.require(ceph.NEEDS)
    with conftest.started() as made:
        storage = ceph.CephCluster(sandbox=made.node.sandbox, address=init.CEPH_ADDRESS)
        found = RbdCluster(made.plane, made.node, storage)
        # Before the Pods: one that starts without the Secret gets it when the kubelet looks again, in a minute.
        found.plane.kubectl("create", "namespace", conftest.SYSTEM)
        found.write_secret()
        found.deploy("rbd")
        for workload in (_CONTROLLER, _NODE):
            found.roll_out(workload)
        yield found


@pytest.fixture
def space(rbd_cluster: RbdCluster) -> Iterator[str]:
    """A namespace of this one test."""
    with conftest.namespace_of(rbd_cluster) as name:
        yield name


def test_pods_of_a_statefulset_find_on_their_images_what_their_predecessors_wrote(
    rbd_cluster: RbdCluster, space: str
) -> None:
    rbd_cluster.plane.apply(_EXAMPLE, f"--namespace={space}")
    rbd_cluster.wait_until_served(space)
    old = {pod: uid(rbd_cluster, space, pod) for pod in _PODS}
    pages = rbd_cluster.pages(space)
    assert pages == {pod: f"hello {pod}\nwritten by Pod {old[pod]}\n" for pod in _PODS}
    assert len(rbd_cluster.images()) == 2

    rbd_cluster.plane.kubectl("delete", "pod", *_PODS, f"--namespace={space}")
    process.wait_until(
        lambda: all(uid(rbd_cluster, space, pod) not in ("", old[pod]) for pod in _PODS),
        seconds=90,
        what="new Pods of the same names",
    )
    rbd_cluster.wait_until_served(space)
    assert rbd_cluster.pages(space) == pages


def test_pods_keep_their_volumes_while_the_node_s_process_is_replaced(rbd_cluster: RbdCluster, space: str) -> None:
    rbd_cluster.plane.apply(_EXAMPLE, f"--namespace={space}")
    rbd_cluster.wait_until_served(space)
    old = {pod: uid(rbd_cluster, space, pod) for pod in _PODS}

    rbd_cluster.plane.kubectl("rollout", "restart", _NODE, f"--namespace={conftest.SYSTEM}")
    rbd_cluster.roll_out(_NODE)

    for pod in _PODS:
        page = "/usr/share/nginx/html/index.html"
        rbd_cluster.node.execute(space, pod, "sh", "-c", f"echo more >>{page} && sync {page}")
    assert {pod: uid(rbd_cluster, space, pod) for pod in _PODS} == old
    assert all(page.endswith("more\n") for page in rbd_cluster.pages(space).values())


def test_a_deleted_claim_s_image_goes_to_the_trash(rbd_cluster: RbdCluster, space: str) -> None:
    before = rbd_cluster.images()
    rbd_cluster.claim(space, storage_class="rbd")
    claim = ("get", "pvc", "data", f"--namespace={space}", "--output=jsonpath={.status.phase}")
    process.wait_until(lambda: rbd_cluster.plane.kubectl(*claim) == "Bound", seconds=30, what="the claim to be Bound")
    (image,) = rbd_cluster.images() - before
    rbd_cluster.plane.kubectl("delete", "pvc", "data", f"--namespace={space}")
    process.wait_until(lambda: rbd_cluster.images() == before, seconds=30, what="the image to leave the pool")
    assert image in rbd_cluster.storage.rbd("trash", "ls", ceph.POOL)
