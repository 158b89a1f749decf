"""The commands in the Pods that `deploy/` makes: they find the storage by the Pod's own settings."""

import json
from typing import Any

import pytest

from tests.harness import process
from tests.node.conftest import SYSTEM, Cluster

pytestmark = pytest.mark.timeout(600)

_SECONDS = 60


def test_a_deleted_volume_comes_back_with_its_claim_and_its_data(cluster: Cluster, namespace: str) -> None:
    cluster.claim(namespace, storage_class="standard")
    cluster.run_pod(namespace, "writer", "echo kept >/data/note && sync /data/note", restartPolicy="Never")
    _wait_for(cluster, namespace, "writer")
    (entry,) = _listed(cluster, f"{namespace}/data")
    assert (entry["persistentVolume"], entry["bytes"]) == (cluster.volume_name(namespace), 16 * 1024**2)

    cluster.plane.kubectl("delete", "pod/writer", "pvc/data", f"--namespace={namespace}")
    process.wait_until(
        lambda: not cluster.plane.kubectl("get", "pv", entry["persistentVolume"], "--ignore-not-found"),
        seconds=_SECONDS,
        what="the PersistentVolume to go",
    )
    (trashed,) = _listed(cluster, f"{namespace}/data", "--trash")
    assert trashed["id"] == entry["id"]

    cluster.plane.apply(_ours(cluster, "restore", trashed["id"]))
    cluster.run_pod(namespace, "reader", "grep kept /data/note", restartPolicy="Never")
    _wait_for(cluster, namespace, "reader")


def test_orphans_are_looked_for_with_the_rights_that_the_pod_has(cluster: Cluster, namespace: str) -> None:
    cluster.claim(namespace, storage_class="standard-immediate")
    process.wait_until(
        lambda: cluster.plane.get("pvc", "data", f"--namespace={namespace}")["status"]["phase"] == "Bound",
        seconds=_SECONDS,
        what="the claim to be bound",
    )
    assert json.loads(_ours(cluster, "volumes", "--orphans", "--output=json"))["volumes"] == []


def _wait_for(cluster: Cluster, namespace: str, pod: str) -> None:
    process.wait_until(
        lambda: cluster.phase(namespace, pod) == "Succeeded", seconds=_SECONDS, what=f"Pod {pod} to succeed"
    )


def _listed(cluster: Cluster, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(_ours(cluster, "volumes", "--output=json", *arguments))["volumes"]
    return found


def _ours(cluster: Cluster, *arguments: str) -> str:
    """What our own program prints when it is called in our own Pod."""
    return cluster.plane.kubectl("exec", cluster.our_pod(), f"--namespace={SYSTEM}", "--", "provisioner", *arguments)
