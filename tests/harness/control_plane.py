"""A real control plane: etcd, kube-apiserver, kube-controller-manager, kube-scheduler; about four seconds to ready.

It runs in a sandbox, so several may run at once and each ends without trace. Its API server is at the same address in
each: `https://10.0.0.1:443`, in the sandbox's own network. A program in the sandbox reaches it (`ControlPlane.run`,
`start`), and so does a thread of this process that stands in its network (`with plane.sandbox.network():`).
"""

import contextlib
import http.client
import json
import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.harness import errors, init, pki, process, sandbox, tools

SERVER = f"https://{init.SERVICE_ADDRESS}"
_ETCD = "http://127.0.0.1:2379"
_READY_SECONDS = 60


class ControlPlane:
    """A control plane that runs.

    Attributes:
        sandbox: where it runs.
        authority: what signs its certificates.
        kubeconfig: of an administrator.
    """

    def __init__(self, box: sandbox.Sandbox, programs: tools.Tools) -> None:
        self.sandbox = box
        self.tools = programs
        self.authority = pki.Authority(box.folder / "pki")
        self._certificate, self._key = self.authority.issue("admin", "admin", groups=["system:masters"])
        self.kubeconfig = self._client_kubeconfig("admin", self._certificate, self._key)

    # Starting and stopping.

    def start(self, *, apiserver: Sequence[str] = (), controller_manager: Sequence[str] = ()) -> None:
        """Start everything, with these flags besides, and wait until it works."""
        self.start_etcd()
        self.start_apiserver(*apiserver)
        self.start_controller_manager(*controller_manager)
        self.start_scheduler()
        process.wait_until(
            lambda: self._succeeds("/api/v1/namespaces/default/serviceaccounts/default"),
            seconds=_READY_SECONDS,
            what="the controller manager to make the first service account",
        )

    def start_etcd(self) -> None:
        """Start etcd; its data are the sandbox's."""
        peer = "http://127.0.0.1:2380"
        self.sandbox.start(
            "etcd",
            [
                etcd_program(),
                *("--name=sandbox", f"--data-dir={self.sandbox.folder / 'etcd'}", "--logger=zap"),
                *(f"--listen-client-urls={_ETCD}", f"--advertise-client-urls={_ETCD}", "--unsafe-no-fsync"),
                *(f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"),
                f"--initial-cluster=sandbox={peer}",
            ],
        )

    def start_apiserver(self, *flags: str) -> None:
        """Start the API server and wait until it is ready."""
        ca, folder = self.authority.certificate, self.authority.folder
        if not (folder / "apiserver.crt").exists():
            hosts = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
            addresses = ["127.0.0.1", init.SERVICE_ADDRESS, init.NODE_ADDRESS]
            names = [f"DNS:{host}" for host in hosts] + [f"IP:{address}" for address in addresses]
            self.authority.issue("apiserver", "kube-apiserver", hosts=names)
            self.authority.issue("kubelet-client", "kubelet-client", groups=["system:masters"])
        self.sandbox.start(
            "kube-apiserver",
            [
                self.tools["kube-apiserver"],
                *(f"--etcd-servers={_ETCD}", "--secure-port=443"),
                *("--bind-address=0.0.0.0", f"--advertise-address={init.NODE_ADDRESS}"),
                *(f"--tls-cert-file={folder / 'apiserver.crt'}", f"--tls-private-key-file={folder / 'apiserver.key'}"),
                *(f"--client-ca-file={ca}", f"--service-account-issuer={SERVER}", f"--api-audiences={SERVER}"),
                f"--service-account-key-file={self.authority.service_account_public_key}",
                f"--service-account-signing-key-file={self.authority.service_account_key}",
                *("--service-cluster-ip-range=10.0.0.0/24", "--authorization-mode=Node,RBAC"),
                *("--allow-privileged=true", "--endpoint-reconciler-type=none"),
                *(f"--kubelet-client-certificate={folder / 'kubelet-client.crt'}", f"--cert-dir={folder}"),
                *(f"--kubelet-client-key={folder / 'kubelet-client.key'}", f"--kubelet-certificate-authority={ca}"),
                "--kubelet-preferred-address-types=InternalIP,Hostname",
                *flags,
            ],
        )
        self.wait_for_apiserver()

    def wait_for_apiserver(self) -> None:
        """Wait until the API server is ready; fail at once when it has ended."""

        def is_ready() -> bool:
            for name in ("etcd", "kube-apiserver"):
                self.sandbox.components[name].check()
            return self._succeeds("/readyz")

        process.wait_until(is_ready, seconds=_READY_SECONDS, what="the API server to be ready")

    def restart_apiserver(self, *flags: str, kill: bool = False) -> None:
        """End the API server and start it anew; every watch and connection to it breaks.

        Unless it is killed at once it has two seconds: it would drain its open watches for a minute.
        """
        component = self.sandbox.components["kube-apiserver"]
        component.stop(seconds=0 if kill else 2)
        self.start_apiserver(*flags)

    def restart_controller_manager(self, *flags: str) -> None:
        """Start the controller manager anew with these flags besides, as in `--kube-api-qps=500`."""
        self.sandbox.components["kube-controller-manager"].stop()
        self.start_controller_manager(*flags)

    def start_controller_manager(self, *flags: str) -> None:
        """Start the controller manager; its client is limited to 20 requests/s unless a flag says otherwise."""
        ca = self.authority
        self.sandbox.start(
            "kube-controller-manager",
            [
                self.tools["kube-controller-manager"],
                *self._component_flags("kube-controller-manager"),
                "--use-service-account-credentials=true",
                f"--service-account-private-key-file={ca.service_account_key}",
                *(f"--root-ca-file={ca.certificate}", f"--cluster-signing-cert-file={ca.certificate}"),
                *(f"--cluster-signing-key-file={ca.key}", f"--cert-dir={ca.folder}"),
                f"--flex-volume-plugin-dir={self.sandbox.folder / 'volume-plugins'}",
                *flags,
            ],
        )

    def start_scheduler(self) -> None:
        """Start the scheduler."""
        self.sandbox.start(
            "kube-scheduler",
            [
                self.tools["kube-scheduler"],
                *self._component_flags("kube-scheduler"),
                f"--cert-dir={self.authority.folder}",
            ],
        )

    def _component_flags(self, name: str) -> list[str]:
        kubeconfig = self.kubeconfig_for(f"system:{name}")
        flags = ("--kubeconfig", "--authentication-kubeconfig", "--authorization-kubeconfig")
        return [*(f"{flag}={kubeconfig}" for flag in flags), "--bind-address=127.0.0.1", "--leader-elect=false"]

    # Who one is.

    def kubeconfig_for(self, user: str, *, groups: Sequence[str] = (), days: int = 365) -> Path:
        """A kubeconfig of a user with a client certificate; `days` at -1 for one that has expired."""
        name = f"user-{user.replace(':', '-')}" + ("-expired" if days < 0 else "")
        if not (self.authority.folder / f"{name}.kubeconfig").exists():
            certificate, key = self.authority.issue(name, user, groups=groups, days=days)
            return self._client_kubeconfig(name, certificate, key)
        return self.authority.folder / f"{name}.kubeconfig"

    def _client_kubeconfig(self, name: str, certificate: Path, key: Path) -> Path:
        user = {"client-certificate": str(certificate), "client-key": str(key)}
        return self.authority.kubeconfig(name, SERVER, user)

    def kubeconfig_for_service_account(self, namespace: str, name: str, *, hours: int = 8) -> Path:
        """A kubeconfig with a token of this service account: whoever uses it has exactly its rights.

        The token is read from a file beside it, as in a Pod: `<kubeconfig>.token`, which may be replaced.
        """
        token = self.kubectl("create", "token", name, f"--namespace={namespace}", f"--duration={hours}h").strip()
        file = self.authority.folder / f"sa-{namespace}-{name}.kubeconfig.token"
        file.write_text(token)
        file.chmod(0o600)
        return self.authority.kubeconfig(f"sa-{namespace}-{name}", SERVER, {"tokenFile": str(file)})

    # Asking it.

    def kubectl(
        self, *arguments: str, stdin: str = "", seconds: float = 60, check: bool = True, kubeconfig: Path | None = None
    ) -> str:
        """What kubectl prints, as the administrator or who `kubeconfig` is.

        Raises:
            errors.HarnessError: it failed; with what it said.
        """
        access = f"--kubeconfig={kubeconfig or self.kubeconfig}"
        command: list[str | Path] = [self.tools["kubectl"], access, *arguments]
        return self.sandbox.run(command, stdin=stdin, seconds=seconds, check=check).stdout

    def get(self, *arguments: str) -> Any:
        """The object, or the list, that `kubectl get … -o json` prints."""
        return json.loads(self.kubectl("get", *arguments, "--output=json"))

    def raw(self, path: str) -> Any:
        """What the API server answers to a GET of this path."""
        return json.loads(self.kubectl("get", f"--raw={path}"))

    def apply(self, manifest: str, *flags: str) -> str:
        """Apply a manifest's text with strict validation by the server; what kubectl says."""
        return self.kubectl("apply", "--validate=strict", "--filename=-", *flags, stdin=manifest)

    def logs(self, name: str, lines: int = 40) -> str:
        """The end of a component's log."""
        return self.sandbox.components[name].tail(lines)

    def cpu_seconds(self, name: str) -> float:
        """CPU time that a component has used since it was started."""
        return self.sandbox.components[name].cpu_seconds()

    def _succeeds(self, path: str) -> bool:
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        context.load_cert_chain(self._certificate, self._key)
        try:
            with self.sandbox.network(), urllib.request.urlopen(SERVER + path, context=context, timeout=5) as answer:
                return bool(answer.status == http.client.OK)
        except (OSError, http.client.HTTPException, urllib.error.URLError):
            return False


def etcd_program() -> Path:
    """Debian's etcd, or the one beside the API server in KUBEBUILDER_ASSETS."""
    beside = tools.assets()
    found = beside / "etcd" if beside and (beside / "etcd").exists() else shutil.which("etcd")
    if found is None:
        raise errors.MissingNeedError("etcd is not installed (Debian: apt-get install etcd-server)")
    return Path(found)


@contextlib.contextmanager
def running(
    *, apiserver: Sequence[str] = (), controller_manager: Sequence[str] = (), progress: tools.Say = tools.say
) -> Iterator[ControlPlane]:
    """A control plane with these flags besides, from start to end; on an error the ends of its logs are added."""
    programs = tools.find(progress=progress)
    with sandbox.Sandbox() as box:
        plane = ControlPlane(box, programs)
        try:
            plane.start(apiserver=apiserver, controller_manager=controller_manager)
        except errors.HarnessError as error:
            raise errors.HarnessError(f"{error}\n{box.tails()}") from error
        yield plane
