"""Our own program as a component of a control plane: a process of its own, with the directory backend.

The control plane has no kubelet, so a test that wants topology says itself where the driver is registered
(`register_node`); mounts are of no interest there.
"""

import http.client
import json
import shutil
import sys
import urllib.request
from pathlib import Path

from tests.harness import control_plane, image_build, process

DRIVER = "directory.csi.provisioner"
TOPOLOGY_KEY = f"topology.{DRIVER}/node"
NODE = "bench-node"
SYSTEM = "provisioner-system"
ACCOUNTS = {"node": "provisioner", "controller": "provisioner-shared", "serve": "provisioner-serve"}
"""The service account that a process of each role has."""

MANIFESTS = {
    "node": ("base/rbac.yaml", "overlays/directory/rbac.yaml"),
    "controller": ("base/rbac.yaml", "whole-cluster/rbac.yaml", "overlays/directory-shared/rbac.yaml"),
}
"""Where `deploy/` says what a process of each role may do."""

_RBAC = "rbac.authorization.k8s.io"
_START_SECONDS = 30


class Program:
    """Our program in a control plane's sandbox; its pool is kept over restarts.

    Args:
        kubeconfig: whose rights it has.
        role: its command: `serve`, `node` for one process of many, or `controller` for one that mounts nothing.
        pool: where its pool is in the sandbox; else all that are started there share one.
    """

    def __init__(
        self,
        plane: control_plane.ControlPlane,
        *,
        name: str = "provisioner",
        kubeconfig: Path | None = None,
        role: str = "serve",
        pool: Path | None = None,
    ) -> None:
        self.plane = plane
        self.name = name
        self.folder = plane.sandbox.folder / name
        self.folder.mkdir(exist_ok=True)
        self._role = role
        self._pool = pool or plane.sandbox.folder / "pool"
        # What is mounted in the sandbox is seen through it.
        self.pool = Path(f"/proc/{plane.sandbox.init_pid}/root{pool}") if pool else self._pool
        self._kubeconfig = kubeconfig or plane.kubeconfig
        self._port = 9810 + len(plane.sandbox.components)

    @property
    def component(self) -> process.Component:
        """The process as it was last started."""
        return self.plane.sandbox.components[self.name]

    def start(self, *flags: str, node: str = NODE, ready: bool = True) -> None:
        """Start it, with these flags besides, and wait until it says that it is ready."""
        place = [] if self._role == "controller" else ["--no-registration", f"--node-name={node}"]
        self.plane.sandbox.start(
            self.name,
            [
                *(sys.executable, "-m", "provisioner", self._role, f"--kubeconfig={self._kubeconfig}"),
                *(f"--pool=default={self._pool}", "--init-pools", f"--csi-socket={self.folder / 'csi.sock'}"),
                *(f"--metrics-address=127.0.0.1:{self._port}", *place, *flags),
            ],
        )
        if ready:
            self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Wait for `/readyz`; fail at once when the process has ended."""

        def is_ready() -> bool:
            self.component.check()
            return self.fetch("/readyz")[0] == http.client.OK

        process.wait_until(is_ready, seconds=_START_SECONDS, what=f"{self.name} to be ready")

    def fetch(self, path: str) -> tuple[int, str]:
        """What its HTTP face answers: the status (0: nothing) and the text."""
        try:
            with (
                self.plane.sandbox.network(),
                urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=5) as answer,
            ):
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refusal:
            return refusal.code, refusal.read().decode()
        except OSError:
            return 0, ""

    def metric(self, sample: str) -> float:
        """The value of one sample, as in `provisioner_bind_total{outcome="eager"}`; 0 where there is none."""
        for line in self.fetch("/metrics")[1].splitlines():
            if line.startswith(f"{sample} "):
                return float(line.rsplit(" ", 1)[1])
        return 0.0

    def volumes(self) -> set[str]:
        """The volumes that the pool holds, the trash left out."""
        return self._entries("volumes")

    def trash(self) -> set[str]:
        """What lies in the pool's trash: each name ends in that of a volume."""
        return self._entries("trash")

    def _entries(self, part: str) -> set[str]:
        folder = self.pool / part
        return {entry.name for entry in folder.iterdir()} if folder.exists() else set()

    def empty_pool(self) -> None:
        """Remove the pool, and what the node remembers of it; the program must not run."""
        shutil.rmtree(self.pool, ignore_errors=True)
        for reminder in self.folder.glob("pool-*"):
            reminder.unlink()


def rights(plane: control_plane.ControlPlane, role: str = "serve") -> Path:
    """A kubeconfig with just the rights that `grant` gives to this role."""
    grant(plane, role)
    return plane.kubeconfig_for_service_account(SYSTEM, ACCOUNTS[role])


def grant(plane: control_plane.ControlPlane, role: str) -> None:
    """Give a process of this role the rights that it has by `deploy/`.

    No overlay has one process watch the whole cluster where volumes have nodes of their own, as `serve` does in these
    tests. It has the rights of such a watcher where volumes have none, and may follow the nodes' labels besides.
    """
    manifests = ("base/namespace.yaml", *MANIFESTS["node" if role == "node" else "controller"])
    for name in manifests:
        plane.apply((image_build.ROOT / "deploy" / name).read_text(), f"--namespace={SYSTEM}")
    if role == "serve":
        plane.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": _serve_rights()}))


def _serve_rights() -> list[dict[str, object]]:
    account = ACCOUNTS["serve"]
    labels = {"apiGroups": [""], "resources": ["nodes"], "verbs": ["list", "watch"]}
    roles = ("provisioner", "provisioner-whole-cluster", account)
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": SYSTEM}},
        {"apiVersion": f"{_RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": account}, "rules": [labels]},
        *(_role_binding(account, role) for role in roles),
    ]


def _role_binding(account: str, role: str) -> dict[str, object]:
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": f"{account}-{role}"},
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": SYSTEM}],
    }


def register_node(plane: control_plane.ControlPlane, name: str = NODE) -> None:
    """Say that there is a node on which the driver is registered, as its kubelet would."""
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {TOPOLOGY_KEY: name}}}
    csi_node = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "CSINode",
        "metadata": {"name": name},
        "spec": {"drivers": [{"name": DRIVER, "nodeID": name, "topologyKeys": [TOPOLOGY_KEY]}]},
    }
    plane.kubectl("apply", "--filename=-", stdin=json.dumps(node))
    plane.kubectl("apply", "--filename=-", stdin=json.dumps(csi_node))


def add_class(plane: control_plane.ControlPlane, name: str, **fields: object) -> None:
    """Make a StorageClass of our driver."""
    body = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name},
        "provisioner": DRIVER,
        "parameters": {"enforcement": "none"},
        **fields,
    }
    plane.kubectl("apply", "--filename=-", stdin=json.dumps(body))
