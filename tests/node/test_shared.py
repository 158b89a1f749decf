"""Shared pools on a real node, as `deploy/overlays/directory-shared` runs them beside the node's own pool."""

import json
from collections.abc import Iterator

import pytest

from tests.harness import image_build, process
from tests.node import conftest

pytestmark = pytest.mark.timeout(600)

_CONTROLLER = "deployment/provisioner-shared-controller"
_NODE = "daemonset/provisioner-shared-node"
_SYSTEM = f"--namespace={conftest.SYSTEM}"
_INIT = {"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "--init-pools"}


@pytest.fixture
def shared(cluster: conftest.Cluster) -> Iterator[conftest.Cluster]:
    """The cluster with the overlay, which has no pool yet."""
    overlay = f"--kustomize={image_build.ROOT}/deploy/overlays/directory-shared"
    cluster.plane.kubectl("apply", "--server-side", "--validate=strict", overlay)
    yield cluster
    cluster.plane.kubectl("delete", _CONTROLLER, _NODE, _SYSTEM)
    cluster.plane.kubectl("delete", "storageclass/shared", "storageclass/shared-retain")


def _roll_out(cluster: conftest.Cluster, workload: str) -> None:
    cluster.plane.kubectl("rollout", "status", workload, _SYSTEM, "--timeout=90s", seconds=100)


def test_a_mount_that_is_missing_is_no_pool_until_it_is_made_one_by_hand_and_then_pods_share_volumes(
    shared: conftest.Cluster, namespace: str
) -> None:
    plane = shared.plane
    shared.claim(namespace, mode="ReadWriteMany", storage_class="shared")

    def told() -> str:
        return plane.kubectl("get", "events", f"--namespace={namespace}", "--output=jsonpath={..message}")

    process.wait_until(lambda: "pool shared" in told(), seconds=90, what="the claim's event")
    assert plane.get("pvc", "data", f"--namespace={namespace}")["status"]["phase"] == "Pending"
    plane.kubectl("patch", _CONTROLLER, _SYSTEM, "--type=json", f"--patch={json.dumps([_INIT])}")
    _roll_out(shared, _CONTROLLER)
    plane.kubectl("rollout", "undo", _CONTROLLER, _SYSTEM)
    for workload in (_CONTROLLER, _NODE):
        _roll_out(shared, workload)
    for name in ("first", "second"):
        shared.run_pod(namespace, name, f"echo {name} >> /data/names; exec sleep 3600")
        shared.wait_until_ready(namespace, name)
    volume = plane.get("pv", shared.volume_name(namespace))
    file = f"/var/lib/provisioner/shared/volumes/{volume['spec']['csi']['volumeHandle']}/data/names"
    process.wait_until(
        lambda: plane.sandbox.run(["/bin/cat", file]).stdout.split() == ["first", "second"],
        seconds=10,
        what="both Pods to have written",
    )
    assert "nodeAffinity" not in volume["spec"]
    plane.kubectl("delete", "pod", "--all", f"--namespace={namespace}", "--grace-period=0", "--force")
    plane.kubectl("delete", "pvc", "data", f"--namespace={namespace}")
    process.wait_until(
        lambda: not plane.kubectl("get", "pv", volume["metadata"]["name"], "--ignore-not-found"),
        seconds=60,
        what="the volume to go",
    )
