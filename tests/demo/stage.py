"""The cluster that the story is played on: one of our own in a sandbox, or the current kubeconfig's."""

import concurrent.futures
import contextlib
import functools
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import yaml

from tests.demo import teller as tellers
from tests.harness import (
    ceph,
    control_plane,
    errors,
    image_build,
    images,
    init,
    keeper,
    node,
    process,
    sandbox,
    tools,
)

WEB_IMAGE = "docker.io/library/busybox:1.36"
CEPH_USER = "storekeeper"
"""The provisioner's user in the Ceph cluster: a word that stands nowhere else."""

_KEPT = "kept"
_KUBELETS = ("kubelet", "k3s-server", "k3s-agent", "k0s", "rke2")


class Stage(Protocol):
    """A cluster, as the story needs it."""

    fresh: bool
    """Whether the program has yet to be deployed there."""

    namespace: str
    """Where the story is played: one that is nobody else's, for it is deleted with all that is in it."""

    def kubectl(self, *arguments: str, stdin: str = "", seconds: float = 60) -> str:
        """What kubectl prints.

        Raises:
            errors.HarnessError: it failed.
        """

    def read_volume(self, handle: str, file: str) -> str | None:
        """What a file in a volume holds, as the node's disk has it; None where we cannot look at the disk."""

    def rbd(self, *arguments: str) -> str | None:
        """What Ceph's own `rbd` prints; None where there is no Ceph cluster that we administer."""

    def node_logs(self) -> dict[str, str]:
        """What the node's own programs logged, by their names; nothing where we cannot read it."""


class Own:
    """A cluster of one node in a sandbox."""

    fresh = True
    namespace = "demo"

    def __init__(self, plane: control_plane.ControlPlane, storage: ceph.CephCluster | None = None) -> None:
        self.plane = plane
        self.ceph = storage

    def kubectl(self, *arguments: str, stdin: str = "", seconds: float = 60) -> str:
        """As `Stage` says; paths are relative to the checkout."""
        placed = [str(image_build.ROOT / word) if word.startswith("deploy/") else word for word in arguments]
        return self.plane.kubectl(*placed, stdin=stdin, seconds=seconds)

    def read_volume(self, handle: str, file: str) -> str | None:
        """As `Stage` says."""
        folder = Path("/var/lib/provisioner/pool/volumes", handle, "data")
        return self.plane.sandbox.run(["/bin/cat", folder / file]).stdout

    def rbd(self, *arguments: str) -> str | None:
        """As `Stage` says."""
        return None if self.ceph is None else self.ceph.rbd(*arguments)

    def ceph_clusters(self) -> str:
        """The Ceph cluster, as the operator writes it down for the provisioner; its user is made here."""
        if self.ceph is None:
            raise errors.HarnessError("there is no Ceph cluster on this stage")
        name, rights = f"client.{CEPH_USER}", f"profile rbd pool={ceph.POOL}"
        self.ceph.ceph("auth", "get-or-create", name, "mon", "profile rbd", "osd", rights, "mgr", rights)
        monitors, key = self.ceph.monitors, self.ceph.ceph("auth", "print-key", name)
        entry = {"clusterID": "main", "monitors": list(monitors), "user": CEPH_USER, "key": key.strip()}
        return yaml.safe_dump([entry], sort_keys=False)

    def node_logs(self) -> dict[str, str]:
        """As `Stage` says."""
        logs = self.plane.sandbox.folder / "logs"
        return {name: (logs / f"{name}.log").read_text(errors="replace") for name in ("kubelet", "containerd")}

    def keep(self) -> str:
        """Leave the cluster up; the command with which to look around."""
        (self.plane.sandbox.folder / _KEPT).touch()
        access: list[str | Path] = [self.plane.tools["kubectl"], f"--kubeconfig={self.plane.kubeconfig}"]
        command = shlex.join(self.plane.sandbox.command(access))
        self.plane.sandbox.keep()
        return command


class Current:
    """The cluster of the current kubeconfig, where the program is deployed already."""

    fresh = False

    def __init__(self) -> None:
        self.namespace = f"provisioner-demo-{uuid.uuid4().hex[:8]}"
        found = shutil.which("kubectl")
        self._kubectl = found or str(tools.find()["kubectl"])

    def kubectl(self, *arguments: str, stdin: str = "", seconds: float = 60) -> str:
        """As `Stage` says."""
        done = subprocess.run(
            [self._kubectl, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            cwd=image_build.ROOT,
        )
        if done.returncode != 0:
            raise errors.HarnessError(f"kubectl {shlex.join(arguments)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def read_volume(self, handle: str, file: str) -> str | None:
        """As `Stage` says; the disk is another machine's."""
        return None

    def rbd(self, *arguments: str) -> str | None:
        """As `Stage` says; the Ceph cluster is somebody else's."""
        return None

    def node_logs(self) -> dict[str, str]:
        """As `Stage` says."""
        return {}


@contextlib.contextmanager
def own(teller: tellers.Teller, *, with_ceph: bool = False) -> Iterator[Own]:
    """A cluster of our own, from nothing; it is taken away at the end unless it was kept."""
    if with_ceph and (missing := list(ceph.NEEDS.missing())):
        raise errors.MissingNeedError(f"{ceph.NEEDS.tier} needs {'; '.join(missing)}")
    with teller.step("The programs and the image"):
        programs = tools.find(progress=teller.note)
        teller.note(f"Kubernetes {tools.kubernetes_version()} from {programs['kube-apiserver'].parent}")
        archive = image_build.archive(progress=teller.note)
        teller.note(f"{image_build.IMAGE} from {archive}")
    with sandbox.Sandbox() as box:
        plane = control_plane.ControlPlane(box, programs)
        with teller.step("A cluster of one node, in namespaces of its own"):
            _start(plane, archive)
            teller.command("kubectl get nodes")
            teller.output(plane.kubectl("get", "nodes"))
        yield Own(plane, _ceph(box, teller) if with_ceph else None)


def _ceph(box: sandbox.Sandbox, teller: tellers.Teller) -> ceph.CephCluster:
    """A Ceph cluster beside the node, which ends with the sandbox."""
    with teller.step("A Ceph cluster of one monitor and one OSD, with a pool `kube`"):
        storage = ceph.CephCluster(sandbox=box, address=init.CEPH_ADDRESS)
        teller.command("ceph osd pool ls detail")
        teller.output(storage.ceph("osd", "pool", "ls", "detail"))
        return storage


def _start(plane: control_plane.ControlPlane, archive: Path) -> None:
    """Start control plane and node; the node's images are unpacked while the API server starts."""
    web = plane.sandbox.folder / "web.tar"
    images.busybox(web, [WEB_IMAGE])
    machine = node.Node(plane)
    try:
        with concurrent.futures.ThreadPoolExecutor(1) as beside:
            prepared = beside.submit(machine.prepare, [web, archive])
            plane.start()
            prepared.result()
        machine.start_kubelet()
    except errors.HarnessError as error:
        raise errors.HarnessError(f"{error}\n{plane.sandbox.tails(15)}") from error


def machine_has_a_kubelet() -> bool:
    """Whether this machine is a node of some cluster already (kubelets in sandboxes of ours do not count)."""
    ours = Path("/proc/self/ns/pid").stat().st_ino
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if (entry / "comm").read_text().strip() in _KUBELETS and (entry / "ns/pid").stat().st_ino == ours:
                    return True
    return False


def left_behind(box: sandbox.Sandbox) -> list[str]:
    """What of an ended sandbox is still on this machine."""
    found = [str(box.folder)] if box.folder.exists() else []
    with Path("/proc/self/mountinfo").open() as mounts:
        found.extend(line.split()[4] for line in mounts if str(box.folder) in line)
    if Path("/proc", str(box.init_pid)).exists():
        found.append(f"process {box.init_pid}")
    found.extend(str(path) for path in keeper.cgroups(box.cgroup))
    return found


def _is_gone(path: Path) -> bool:
    return not path.exists()


def stop_kept(say: Callable[[str], None]) -> None:
    """End every cluster that was kept."""
    for marker in Path(tempfile.gettempdir(), "provisioner-sandboxes").glob(f"*/{_KEPT}"):
        folder = marker.parent
        os.kill(int((folder / "keeper.pid").read_text()), signal.SIGTERM)
        process.wait_until(functools.partial(_is_gone, folder), seconds=60, what=f"{folder} to go")
        say(f"ended the cluster of {folder}")
