"""A cluster with a node, on which the program is deployed by `deploy/`, started once per run of pytest.

- `cluster`: `Cluster`, with the control plane, the node, and where our own Pod is.
- `namespace`: a namespace of this one test, deleted after it.

The first test waits for the image too, which takes a minute and a half when nothing of it is in the cache.
"""

import contextlib
import dataclasses
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import control_plane, errors, image_build, images, needs, process
from tests.harness import node as nodes

WEB_IMAGE = "docker.io/library/busybox:1.36"
SYSTEM = "provisioner-system"


@dataclasses.dataclass
class Cluster:
    """A cluster with one node on which the program is deployed."""

    plane: control_plane.ControlPlane
    node: nodes.Node

    @property
    def sandbox(self) -> object:
        """Where it runs; what a failed test shows comes from there."""
        return self.plane.sandbox

    def our_pod(self) -> str:
        """The name of our own Pod on the node, which is not on its way out."""
        pods = self.plane.get("pods", f"--namespace={SYSTEM}", "--selector=app.kubernetes.io/component=node")["items"]
        return str(next(pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]))

    def our_logs(self) -> str:
        """What our own Pod has printed; empty while the kubelet does not answer."""
        return self.plane.kubectl("logs", self.our_pod(), f"--namespace={SYSTEM}", check=False)

    def our_status(self) -> dict[str, Any]:
        """The status of our container, as the kubelet has it."""
        status: dict[str, Any] = self.plane.get("pod", self.our_pod(), f"--namespace={SYSTEM}")["status"]
        return dict(status["containerStatuses"][0])

    def our_restarts(self) -> int:
        """How often our container was started anew in its Pod."""
        return int(self.our_status()["restartCount"])

    def kill_our_process(self, number: int) -> None:
        """Send our process a signal, from outside of its container."""
        for pid in process.descendants(self.node.sandbox.init_pid):
            if "/opt/provisioner/bin/provisioner" in process.command_line(pid):
                os.kill(pid, number)

    def volume_name(self, namespace: str) -> str:
        """The PersistentVolume of the claim `data`."""
        return str(self.plane.get("pvc", "data", f"--namespace={namespace}")["spec"]["volumeName"])

    def mounted_as(self, namespace: str) -> set[str]:
        """How the claim `data` is mounted for Pods, in all places where the node sees it: `ro`, `rw`, or both."""
        mounted = Path(f"/proc/{self.node.sandbox.init_pid}/mountinfo").read_text().splitlines()
        name = self.volume_name(namespace)
        options = (line.split()[5].split(",") for line in mounted if f"/{name}/mount " in line)
        return {option for each in options for option in each if option in {"ro", "rw"}}

    def deploy(self, overlay: str) -> None:
        """Apply an overlay of `deploy/`."""
        folder = Path(image_build.ROOT, "deploy/overlays", overlay)
        self.plane.kubectl("apply", "--server-side", "--validate=strict", f"--kustomize={folder}")

    def wait_until_deployed(self) -> None:
        """Wait until our own Pod is Ready."""
        rollout = ("rollout", "status", "daemonset/provisioner-node", f"--namespace={SYSTEM}", "--timeout=90s")
        self.plane.kubectl(*rollout, seconds=100)

    def phase(self, namespace: str, pod: str) -> str:
        """The Pod's phase; empty where there is no such Pod."""
        return self.plane.kubectl(
            *("get", "pod", pod, f"--namespace={namespace}", "--ignore-not-found", "--output=jsonpath={.status.phase}")
        )

    def wait_until_ready(self, namespace: str, *pods: str, seconds: float = 60) -> None:
        """Wait until these Pods are Ready."""
        names = [f"pod/{pod}" for pod in pods]
        self.plane.kubectl(
            *("wait", "--for=condition=Ready", f"--namespace={namespace}", f"--timeout={seconds:.0f}s", *names),
            seconds=seconds + 10,
        )

    def run_pod(self, namespace: str, name: str, command: str, **spec: object) -> None:
        """Make a Pod with the claim `data` at /data, and this much else in its spec."""
        container: dict[str, object] = {
            "name": "main",
            "image": WEB_IMAGE,
            "command": ["sh", "-c", command],
            "volumeMounts": [{"name": "data", "mountPath": "/data", "readOnly": bool(spec.pop("read_only", False))}],
        }
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "containers": [container],
                "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
                **spec,
            },
        }
        self.plane.apply(json.dumps(pod))

    def claim(self, namespace: str, *, mode: str = "ReadWriteOnce", storage_class: str = "standard") -> None:
        """Make the claim `data`."""
        claim = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "data", "namespace": namespace},
            "spec": {
                "storageClassName": storage_class,
                "accessModes": [mode],
                "resources": {"requests": {"storage": "16Mi"}},
            },
        }
        self.plane.apply(json.dumps(claim))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The cluster of this run."""
    needs.require(needs.NODE)
    with started() as found:
        found.deploy("directory")
        found.wait_until_deployed()
        yield found


@contextlib.contextmanager
def started() -> Iterator[Cluster]:
    """A cluster with a node, and nothing deployed on it."""
    archive = image_build.archive()
    with control_plane.running() as plane:
        node = nodes.Node(plane)
        web = plane.sandbox.folder / "web.tar"
        images.busybox(web, [WEB_IMAGE])
        try:
            node.start([web, archive])
        except errors.HarnessError as error:
            raise errors.HarnessError(f"{error}\n{plane.sandbox.tails(15)}") from error
        yield Cluster(plane, node)


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of this one test."""
    with namespace_of(cluster) as name:
        yield name


@contextlib.contextmanager
def namespace_of(cluster: Cluster) -> Iterator[str]:
    """A namespace, deleted at the end."""
    name = f"test-{uuid.uuid4().hex[:10]}"
    cluster.plane.kubectl("create", "namespace", name)
    process.wait_until(
        lambda: cluster.plane.get("serviceaccounts", f"--namespace={name}")["items"],
        seconds=30,
        what="the namespace's service account",
    )
    yield name
    cluster.plane.kubectl("delete", "namespace", name, "--wait=false")
