"""One node on a control plane: containerd and a kubelet, in the control plane's sandbox; ready in a second or two.

The kubelet's folder is /var/lib/kubelet in the sandbox, so manifests need no change to run here. Pods get addresses
that the sandbox's network can reach, and reach the API server at the address that their environment names.
"""

import http.client
import json
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path

import yaml

from tests.harness import control_plane, errors, images, init, keeper, process

PAUSE_IMAGE = "localhost/busybox:1"
_POD_NETWORK = "10.88.0.0/24"
_NO_CLUSTER_DNS = "10.0.0.10"
"""Nothing answers there; without an address the kubelet warns of it on every Pod."""

_READY_SECONDS = 60

_KERNEL_SETTINGS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
"""What a kubelet sets for the whole machine. It is shown these values instead, and leaves the machine's alone."""

_CONTAINERD = """\
version = 2
root = "{folder}/root"
state = "{folder}/state"
[grpc]
  address = "{folder}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  # Where CAP_SYS_RESOURCE is missing, as in a container, runc fails without it.
  restrict_oom_score_adj = true
  sandbox_image = "{pause}"
  stream_server_address = "127.0.0.1"
  disable_apparmor = {no_apparmor}
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}/cni"
"""


class Node:
    """A node that runs; there is one per sandbox.

    Attributes:
        name: of its Node object.
        plane: its control plane.
        sandbox: where both run.
    """

    def __init__(self, plane: control_plane.ControlPlane, name: str = "node-1") -> None:
        self.plane = plane
        self.name = name
        self.sandbox = plane.sandbox
        self._folder = self.sandbox.folder / "containerd"
        self._socket = self._folder / "containerd.sock"

    def start(self, archives: Sequence[Path] = ()) -> None:
        """Start containerd, import these image archives, start the kubelet, and wait until the node is Ready."""
        self.prepare(archives)
        self.start_kubelet()

    def prepare(self, archives: Sequence[Path] = ()) -> None:
        """Start containerd and import these images; needs no API server yet."""
        keeper.make_cgroups(self.sandbox.cgroup)
        self._show_kernel_settings()
        self.start_containerd()
        pause = self.sandbox.folder / "busybox.tar"
        images.busybox(pause, [PAUSE_IMAGE])
        for archive in (pause, *archives):
            self.import_image(archive)

    def _show_kernel_settings(self) -> None:
        for name, value in _KERNEL_SETTINGS.items():
            shown = self.sandbox.folder / name.replace("/", "-")
            shown.write_text(f"{value}\n")
            self.sandbox.run(["/bin/mount", "--bind", shown, f"/proc/sys/{name}"])

    def start_containerd(self) -> None:
        """Start containerd and wait until it answers."""
        (self._folder / "cni").mkdir(parents=True)
        apparmor = Path("/sys/module/apparmor/parameters/enabled")
        unusable = not apparmor.exists() or apparmor.read_text().strip() != "Y" or not shutil.which("apparmor_parser")
        config = self._folder / "config.toml"
        config.write_text(
            _CONTAINERD.format(folder=self._folder, pause=PAUSE_IMAGE, no_apparmor="true" if unusable else "false")
        )
        addresses = {
            "type": "host-local",
            "ranges": [[{"subnet": _POD_NETWORK}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": f"{self._folder}/ipam",
        }
        plugin = {"type": "ptp", "ipMasq": False, "ipam": addresses}
        network = {"cniVersion": "0.4.0", "name": "pods", "plugins": [plugin]}
        (self._folder / "cni" / "10-pods.conflist").write_text(json.dumps(network))
        self.sandbox.start("containerd", [_program("containerd"), f"--config={config}"])
        process.wait_until(self._answers, seconds=30, what="containerd to answer")

    def _answers(self) -> bool:
        self.sandbox.components["containerd"].check()
        return self._ctr("version", check=False) == 0

    def import_image(self, archive: Path) -> None:
        """Import an image archive, so that Pods find the image without pulling it."""
        self._ctr("--namespace=k8s.io", "images", "import", str(archive))

    def images(self) -> list[str]:
        """The names of the images that Pods can use."""
        listed = self.sandbox.run([_program("ctr"), f"--address={self._socket}", "-n", "k8s.io", "images", "ls", "-q"])
        return listed.stdout.split()

    def _ctr(self, *arguments: str, check: bool = True) -> int:
        command = [_program("ctr"), f"--address={self._socket}", *arguments]
        return self.sandbox.run(command, check=check, seconds=120).returncode

    def start_kubelet(self) -> None:
        """Start the kubelet and wait until its node is Ready."""
        config = self.sandbox.folder / "kubelet.yaml"
        config.write_text(yaml.safe_dump(self._kubelet_configuration()))
        kubeconfig = self.plane.kubeconfig_for(f"system:node:{self.name}", groups=["system:nodes"])
        self.sandbox.start(
            "kubelet",
            [
                self.plane.tools["kubelet"],
                *(f"--config={config}", f"--kubeconfig={kubeconfig}", "--root-dir=/var/lib/kubelet"),
                *(f"--hostname-override={self.name}", f"--node-ip={init.NODE_ADDRESS}", "--v=2"),
                f"--cert-dir={self.sandbox.folder / 'pki'}",
            ],
        )
        process.wait_until(self._is_ready, seconds=_READY_SECONDS, what=f"node {self.name} to be Ready")

    def restart_kubelet(self) -> None:
        """Kill the kubelet with -9 and start it anew; its Pods run on meanwhile."""
        self.sandbox.components["kubelet"].kill()
        self.start_kubelet()

    def _is_ready(self) -> bool:
        self.sandbox.components["kubelet"].check()
        if not self._is_healthy():
            return False
        path = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
        return self.plane.kubectl("get", "node", self.name, "--ignore-not-found", f"--output={path}").strip() == "True"

    def _is_healthy(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", 10248, timeout=5)
        try:
            with self.sandbox.network():
                connection.request("GET", "/healthz")
                return connection.getresponse().status == http.client.OK
        except OSError:
            return False
        finally:
            connection.close()

    def _kubelet_configuration(self) -> dict[str, object]:
        hosts = [f"DNS:{self.name}", f"IP:{init.NODE_ADDRESS}"]
        certificate, key = self.plane.authority.issue(
            "kubelet-serving", f"system:node:{self.name}", groups=["system:nodes"], hosts=hosts
        )
        authority = str(self.plane.authority.certificate)
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "failCgroupV1": False,
            "failSwapOn": False,
            "makeIPTablesUtilChains": False,
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.sandbox.cgroup}",
            "containerRuntimeEndpoint": f"unix://{self._socket}",
            "address": init.NODE_ADDRESS,
            "healthzBindAddress": "127.0.0.1",
            "volumePluginDir": str(self.sandbox.folder / "volume-plugins"),
            "resolvConf": "",
            "clusterDNS": [_NO_CLUSTER_DNS],
            "enforceNodeAllocatable": [],
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": authority},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(certificate),
            "tlsPrivateKeyFile": str(key),
            "syncFrequency": "10s",
            "volumeStatsAggPeriod": "10s",
        }

    # What its Pods do.

    def pod_address(self, namespace: str, pod: str) -> str:
        """The Pod's address; empty until it has one."""
        arguments = ("get", "pod", pod, f"--namespace={namespace}", "--output=jsonpath={.status.podIP}")
        return self.plane.kubectl(*arguments).strip()

    def http_get(self, namespace: str, pod: str, path: str = "/", *, port: int = 80) -> str:
        """What a Pod serves.

        Raises:
            errors.HarnessError: it does not answer, or with something else than 200.
        """
        address = self.pod_address(namespace, pod)
        if not address:
            raise errors.HarnessError(f"Pod {pod} has no address yet")
        with self.sandbox.network():
            connection = http.client.HTTPConnection(address, port, timeout=5)
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                body = answer.read().decode()
            except (OSError, http.client.HTTPException, socket.gaierror) as error:
                raise errors.HarnessError(f"http://{address}:{port}{path} of Pod {pod}: {error}") from error
            finally:
                connection.close()
        if answer.status != http.client.OK:
            raise errors.HarnessError(f"http://{address}:{port}{path} of Pod {pod}: {answer.status} {answer.reason}")
        return body

    def execute(self, namespace: str, pod: str, *command: str) -> str:
        """What a command in the Pod's container prints."""
        return self.plane.kubectl("exec", pod, f"--namespace={namespace}", "--", *command)


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise errors.MissingNeedError(f"{name} is not installed (Debian: apt-get install containerd runc)")
    return found
