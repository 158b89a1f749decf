"""Restarts are invisible to Pods: our process, and the kubelet, may die and come back while a Pod writes."""

import re
import signal

import pytest

from tests.harness import process
from tests.node.conftest import SYSTEM, Cluster

pytestmark = pytest.mark.timeout(600)

# Appends a number ten times a second and reads it back; stops at once, with a word, at the first error.
WRITER = """
n=0
while echo $n >>/data/log && tail -n 1 /data/log | grep -qx $n; do n=$((n+1)); sleep 0.1; done
echo FAILED at $n; sleep 3600
"""


def lines(cluster: Cluster, namespace: str) -> list[str]:
    return cluster.node.execute(namespace, "writer", "cat", "/data/log").split()


def start_writer(cluster: Cluster, namespace: str) -> None:
    cluster.claim(namespace)
    cluster.run_pod(namespace, "writer", WRITER)
    cluster.wait_until_ready(namespace, "writer")


def assert_never_interrupted(cluster: Cluster, namespace: str) -> None:
    so_far = len(lines(cluster, namespace))
    process.wait_until(lambda: len(lines(cluster, namespace)) > so_far + 5, seconds=20, what="the writer to go on")
    assert cluster.plane.kubectl("logs", "writer", f"--namespace={namespace}") == ""
    written = lines(cluster, namespace)
    assert written == [str(number) for number in range(len(written))]
    pod = cluster.plane.get("pod", "writer", f"--namespace={namespace}")
    assert [status["restartCount"] for status in pod["status"]["containerStatuses"]] == [0]


def test_a_pod_writes_on_while_our_pod_is_replaced(cluster: Cluster, namespace: str) -> None:
    start_writer(cluster, namespace)
    old = cluster.our_pod()
    cluster.plane.kubectl("delete", "pod", old, f"--namespace={SYSTEM}")
    process.wait_until(lambda: cluster.our_pod() != old, seconds=30, what="our new Pod")
    cluster.wait_until_deployed()
    assert_never_interrupted(cluster, namespace)


def test_a_pod_writes_on_while_our_process_is_killed_and_new_pods_start_after_it(
    cluster: Cluster, namespace: str
) -> None:
    start_writer(cluster, namespace)
    before = cluster.our_restarts()
    cluster.kill_our_process(signal.SIGKILL)
    process.wait_until(lambda: cluster.our_restarts() > before, seconds=60, what="our process to be started anew")
    cluster.wait_until_deployed()
    assert_never_interrupted(cluster, namespace)

    cluster.run_pod(namespace, "reader", "cat /data/log; sleep 3600")
    cluster.wait_until_ready(namespace, "reader")
    assert cluster.plane.kubectl("logs", "reader", f"--namespace={namespace}").startswith("0\n1\n")


def test_a_pod_writes_on_while_the_kubelet_is_killed_and_the_driver_is_registered_again(
    cluster: Cluster, namespace: str
) -> None:
    start_writer(cluster, namespace)
    registered = re.compile("the kubelet has registered the driver")
    before = len(registered.findall(cluster.our_logs()))
    cluster.node.restart_kubelet()
    process.wait_until(
        lambda: len(registered.findall(cluster.our_logs())) > before,
        seconds=60,
        what="the driver to be registered again",
    )
    assert_never_interrupted(cluster, namespace)

    cluster.run_pod(namespace, "reader", "sleep 3600")
    cluster.wait_until_ready(namespace, "reader")


def test_our_process_ends_within_ten_seconds_of_sigterm(cluster: Cluster) -> None:
    before = cluster.our_restarts()
    cluster.kill_our_process(signal.SIGTERM)
    process.wait_until(lambda: cluster.our_restarts() > before, seconds=30, what="our process to be started anew")
    cluster.wait_until_deployed()
    last = cluster.our_status()["lastState"]["terminated"]
    assert last["exitCode"] == 0
