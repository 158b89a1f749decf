"""How Pods see their volumes: as the group they ask for, read-only where they say so, alone where they claim that."""

import pytest

from tests.harness import errors, process
from tests.node.conftest import Cluster

pytestmark = pytest.mark.timeout(600)

WAIT = "while true; do sleep 1; done"


def test_a_pod_without_root_writes_to_its_volume_as_its_fs_group(cluster: Cluster, namespace: str) -> None:
    cluster.claim(namespace)
    identity = {"runAsNonRoot": True, "runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 2000}
    cluster.run_pod(namespace, "writer", f"echo mine >/data/file; {WAIT}", securityContext=identity)
    cluster.wait_until_ready(namespace, "writer")
    process.wait_until(
        lambda: "mine" in cluster.node.execute(namespace, "writer", "sh", "-c", "cat /data/file || true"),
        seconds=10,
        what="the file to be written",
    )
    assert cluster.node.execute(namespace, "writer", "stat", "-c", "%u %g", "/data/file").strip() == "1000 2000"
    assert cluster.node.execute(namespace, "writer", "stat", "-c", "%g %a", "/data").strip() == "2000 2770"


def test_a_volume_mounted_read_only_cannot_be_written_even_by_root(cluster: Cluster, namespace: str) -> None:
    cluster.claim(namespace)
    read_only = [{"name": "data", "persistentVolumeClaim": {"claimName": "data", "readOnly": True}}]
    cluster.run_pod(namespace, "reader", WAIT, read_only=True, volumes=read_only)
    cluster.wait_until_ready(namespace, "reader")
    with pytest.raises(errors.HarnessError, match="Read-only file system"):
        cluster.node.execute(namespace, "reader", "touch", "/data/file")
    assert cluster.mounted_as(namespace) == {"ro"}


def test_a_second_pod_stays_out_of_a_volume_claimed_for_one_pod(cluster: Cluster, namespace: str) -> None:
    cluster.claim(namespace, mode="ReadWriteOncePod")
    cluster.run_pod(namespace, "first", WAIT)
    cluster.wait_until_ready(namespace, "first")
    # Named by hand, so that it is the kubelet and the driver, not the scheduler, that keep it out.
    cluster.run_pod(namespace, "second", WAIT, nodeName=cluster.node.name)

    def refused() -> bool:
        events = cluster.plane.kubectl(
            "get", "events", f"--namespace={namespace}", "--field-selector=involvedObject.name=second"
        )
        return "FailedMount" in events or "ReadWriteOncePod" in events

    process.wait_until(refused, seconds=60, what="the second Pod to be refused")
    assert (cluster.phase(namespace, "first"), cluster.phase(namespace, "second")) == ("Running", "Pending")


def test_a_claim_for_many_nodes_is_refused_with_what_to_write_instead(cluster: Cluster, namespace: str) -> None:
    cluster.claim(namespace, mode="ReadWriteMany")
    cluster.run_pod(namespace, "wants-many", WAIT)

    def message() -> str:
        events = cluster.plane.get("events", f"--namespace={namespace}")["items"]
        return "".join(event["message"] for event in events if event["reason"] == "ProvisioningFailed")

    process.wait_until(message, seconds=30, what="the refusal to be said on the claim")
    assert "ReadWriteOnce" in message()
