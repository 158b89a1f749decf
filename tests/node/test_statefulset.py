"""The StatefulSet story with real Pods: what a Pod wrote is there for the Pod that comes after it."""

from pathlib import Path

import pytest

from tests.harness import image_build, process
from tests.node.conftest import Cluster

pytestmark = pytest.mark.timeout(600)

EXAMPLE = Path(image_build.ROOT, "deploy/examples/statefulset.yaml").read_text()


def uid(cluster: Cluster, namespace: str, pod: str) -> str:
    found = ("get", "pod", pod, f"--namespace={namespace}", "--ignore-not-found", "--output=jsonpath={.metadata.uid}")
    return cluster.plane.kubectl(*found)


def ready_replicas(cluster: Cluster, namespace: str) -> int:
    status = cluster.plane.get("statefulset", "web", f"--namespace={namespace}")["status"]
    return int(status.get("readyReplicas", 0))


def test_pods_of_a_statefulset_find_what_their_predecessors_wrote(cluster: Cluster, namespace: str) -> None:
    cluster.plane.apply(EXAMPLE, f"--namespace={namespace}")
    process.wait_until(lambda: ready_replicas(cluster, namespace) == 2, seconds=60, what="both Pods to be Ready")
    old = {pod: uid(cluster, namespace, pod) for pod in ("web-0", "web-1")}
    pages = {pod: cluster.node.http_get(namespace, pod) for pod in old}
    assert {pod: f"hello {pod}\nwritten by Pod {old[pod]}\n" for pod in old} == pages

    cluster.plane.kubectl("delete", "pod", "web-0", "web-1", f"--namespace={namespace}")

    def back() -> bool:
        return ready_replicas(cluster, namespace) == 2 and all(
            uid(cluster, namespace, pod) not in ("", old[pod]) for pod in old
        )

    process.wait_until(back, seconds=60, what="new Pods of the same names")
    assert pages == {pod: cluster.node.http_get(namespace, pod) for pod in old}


def test_claims_of_a_statefulset_stay_bound_when_it_is_scaled_to_nothing(cluster: Cluster, namespace: str) -> None:
    cluster.plane.apply(EXAMPLE, f"--namespace={namespace}")
    process.wait_until(lambda: ready_replicas(cluster, namespace) == 2, seconds=60, what="both Pods to be Ready")
    cluster.plane.kubectl("scale", "statefulset/web", "--replicas=0", f"--namespace={namespace}")
    process.wait_until(
        lambda: not cluster.plane.get("pods", f"--namespace={namespace}")["items"], seconds=60, what="the Pods to go"
    )
    claims = cluster.plane.get("pvc", f"--namespace={namespace}")["items"]
    phases = {claim["metadata"]["name"]: claim["status"]["phase"] for claim in claims}
    assert phases == {"www-web-0": "Bound", "www-web-1": "Bound"}
