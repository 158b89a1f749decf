"""A node's own process serves its claims from the first to the last, by the classes and rights of `deploy/`."""

import pytest

from tests.harness import process
from tests.node.conftest import Cluster

pytestmark = pytest.mark.timeout(600)

_SECONDS = 60


def test_a_claim_of_an_immediate_class_is_bound_without_a_pod_and_goes_with_its_volume(
    cluster: Cluster, namespace: str
) -> None:
    cluster.claim(namespace, storage_class="standard-immediate")
    process.wait_until(
        lambda: cluster.plane.get("pvc", "data", f"--namespace={namespace}")["status"]["phase"] == "Bound",
        seconds=_SECONDS,
        what="the claim to be bound",
    )
    name = cluster.volume_name(namespace)
    volume = cluster.plane.get("pv", name)
    handle = volume["spec"]["csi"]["volumeHandle"]
    (term,) = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert [expression["values"] for expression in term["matchExpressions"]] == [[cluster.node.name]]
    assert handle in _volumes(cluster)

    cluster.plane.kubectl("delete", "pvc", "data", f"--namespace={namespace}")
    process.wait_until(
        lambda: not cluster.plane.kubectl("get", "pv", name, "--ignore-not-found"),
        seconds=_SECONDS,
        what="the volume to go",
    )
    assert handle not in _volumes(cluster)


def test_the_size_of_a_preferred_class_is_said_to_be_unenforced_in_one_event(cluster: Cluster, namespace: str) -> None:
    cluster.claim(namespace, storage_class="standard-immediate")

    def said() -> list[tuple[str, int]]:
        events = cluster.plane.get("events", f"--namespace={namespace}")["items"]
        return [(event["type"], event["count"]) for event in events if event["reason"] == "SizeNotEnforced"]

    process.wait_until(said, seconds=_SECONDS, what="the event")
    assert said() == [("Normal", 1)]


def _volumes(cluster: Cluster) -> list[str]:
    return cluster.node.sandbox.run(["/bin/ls", "/var/lib/provisioner/pool/volumes"]).stdout.split()
