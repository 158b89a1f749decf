"""A real Ceph cluster for tests: monitor, OSDs and manager of Debian's packages on the loopback, in seconds.

`CephCluster()` is on this machine's own network and ends with the process that made it, however that ends.
`CephCluster(sandbox=…)` is in a sandbox, reached by what runs there, and ends with it; at `init.CEPH_ADDRESS` Pods
reach it too.
"""

import contextlib
import dataclasses
import gc
import json
import signal
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self

import pytest

from provisioner import model
from tests.harness import ceph_conf, errors, herd, needs, process, sandbox

POOL = "kube"
USER = "csi"
_MONITOR, _MANAGER = "mon.a", "mgr.x"
NEEDS = needs.Needs(
    "a Ceph cluster",
    programs=(("ceph-mon", "ceph-mon"), ("ceph-osd", "ceph-osd"), ("ceph-mgr", "ceph-mgr"), ("rbd", "ceph-common")),
    built=False,
)


class _Ground(Protocol):
    """What a cluster stands on: a herd, or a sandbox."""

    folder: Path

    def start(self, name: str, arguments: Sequence[str | Path]) -> process.Component: ...
    def run(self, arguments: Sequence[str | Path], *, seconds: float = 60) -> subprocess.CompletedProcess[str]: ...
    def close(self) -> None: ...


class CephCluster:
    """A running cluster with the pool `kube` and the user `client.csi`.

    Attributes:
        folder: what the daemons write, `ceph.conf` and the keyring of `client.admin` and `client.csi` in it.
        conf: path of the `ceph.conf`.
        monitors: as `mon_host` has them.
        key: of `client.csi`.
        daemons: by name, `mon.a`, `osd.0`, `mgr.x`.
    """

    def __init__(
        self,
        *,
        store: Literal["memstore", "bluestore"] = "memstore",
        osds: int = 1,
        manager: bool = True,
        bytes_per_osd: int = 4 * model.GIB,
        sandbox: sandbox.Sandbox | None = None,
        address: str = "127.0.0.1",
    ) -> None:
        self._ground: _Ground = sandbox if sandbox is not None else herd.Herd()
        self._owned = sandbox is None
        self._address = address
        self.daemons: dict[str, process.Component] = {}
        self.fsid = str(uuid.uuid4())
        try:
            self.folder = Path(tempfile.mkdtemp(prefix="ceph-", dir=self._ground.folder))
            self._settings = ceph_conf.Settings(
                folder=self.folder,
                fsid=self.fsid,
                address=address,
                mon_host=self._mon_host(),
                store=store,
                bytes_per_osd=bytes_per_osd,
            )
            self.conf = self._settings.write()
            self._boot(osds, manager=manager)
        except BaseException:
            self.close()
            raise

    @property
    def monitors(self) -> tuple[str, ...]:
        return (self._settings.mon_host,)

    @property
    def key(self) -> str:
        return self.key_of(f"client.{USER}")

    # --- boot

    def _boot(self, osds: int, *, manager: bool) -> None:
        secrets = self._write_keys(osds)
        monmap = self.folder / "monmap"
        self.run("monmaptool", "--create", "--fsid", self.fsid, "--addv", "a", self._settings.mon_host, monmap)
        (self.folder / "mon").mkdir()
        bootstrap = ("--monmap", monmap, "--keyring", self.folder / "mon.keyring")
        self.run("ceph-mon", "-c", self.conf, "--mkfs", "-i", "a", *bootstrap)
        self.start(_MONITOR)
        for number in range(osds):
            self._make_osd(number, secrets[f"osd.{number}"])
        if manager:
            self.start(_MANAGER)
        self._wait_up()
        self.create_pool(POOL)
        if manager:
            process.wait_until(self._has_manager, seconds=60, what="an active manager")

    def _write_keys(self, osds: int) -> dict[str, str]:
        """All keys at once: the monitor takes over what its first keyring has, so that no command need add them."""
        rbd = {"mon": "profile rbd", "osd": "profile rbd", "mgr": "profile rbd"}
        everything = {"mon": "allow *", "osd": "allow *", "mgr": "allow *"}
        users = {
            "mon.": {"mon": "allow *"},
            "client.admin": everything,
            f"client.{USER}": rbd,
            _MANAGER: {"mon": "allow profile mgr", "osd": "allow *"},
        } | {f"osd.{number}": {"mon": "allow profile osd", "osd": "allow *"} for number in range(osds)}
        secrets = {user: self.run("ceph-authtool", "--gen-print-key").strip() for user in users}
        _write_keyring(self.folder / "mon.keyring", {user: (secrets[user], caps) for user, caps in users.items()})
        _write_keyring(self.folder / "keyring", {user: (secrets[user], {}) for user in users if user != "mon."})
        return secrets

    def _make_osd(self, number: int, secret: str) -> None:
        identity = str(uuid.uuid4())
        folder = self.folder / f"osd.{number}"
        folder.mkdir()
        self.ceph("osd", "create", identity, str(number))
        _write_keyring(folder / "keyring", {f"osd.{number}": (secret, {})})
        made = ("--mkfs", "--osd-uuid", identity, "--keyring", folder / "keyring")
        self.run("ceph-osd", "-c", self.conf, "-i", str(number), *made)
        self.start(f"osd.{number}")

    def _wait_up(self) -> None:
        osds = sum(name.startswith("osd.") for name in self.daemons)
        process.wait_until(lambda: self._up() == osds, seconds=60, what="the OSDs to be up")

    def _up(self) -> int:
        for daemon in self.daemons.values():
            daemon.check()
        return int(json.loads(self.ceph("osd", "stat", "--format=json"))["num_up_osds"])

    def _has_manager(self) -> bool:
        self.daemons[_MANAGER].check()
        return bool(json.loads(self.ceph("mgr", "stat", "--format=json"))["available"])

    # --- commands

    def run(self, program: str, *arguments: str | Path, seconds: float = 60) -> str:
        """Run a program where the cluster is; what it printed."""
        return self._ground.run([f"/usr/bin/{program}", *arguments], seconds=seconds).stdout

    def ceph(self, *arguments: str) -> str:
        """`ceph ARGUMENTS` as administrator."""
        return self.run("ceph", "-c", self.conf, "--connect-timeout=30", *arguments)

    def rbd(self, *arguments: str) -> str:
        """`rbd ARGUMENTS` as administrator."""
        return self.run("rbd", "-c", self.conf, *arguments)

    def rados(self, *arguments: str) -> str:
        """`rados ARGUMENTS` as administrator."""
        return self.run("rados", "-c", self.conf, *arguments)

    # --- daemons

    def start(self, daemon: str) -> None:
        """Start a daemon that does not run."""
        kind, name = daemon.split(".")
        command: list[str | Path] = [f"/usr/bin/ceph-{kind}", "-c", self.conf, "-i", name, "-f"]
        self.daemons[daemon] = self._ground.start(f"ceph-{daemon}", command)

    def freeze(self, daemon: str) -> None:
        """SIGSTOP: its sockets stay open, and nobody answers there."""
        self.daemons[daemon].signal(signal.SIGSTOP)

    def thaw(self, daemon: str) -> None:
        """SIGCONT."""
        self.daemons[daemon].signal(signal.SIGCONT)

    @contextlib.contextmanager
    def frozen(self, *daemons: str) -> Iterator[None]:
        """Have daemons stopped for a while."""
        try:
            for daemon in daemons:
                self.freeze(daemon)
            yield
        finally:
            for daemon in daemons:
                self.thaw(daemon)

    def kill(self, daemon: str) -> None:
        """SIGKILL, and wait for its end. An OSD on memstore forgets everything."""
        self.daemons[daemon].kill()

    def move_monitor(self) -> None:
        """Give the only monitor another address; the other daemons are restarted, as they know only the old one."""
        for daemon in reversed(self.daemons.values()):
            daemon.stop()
        self._settings = dataclasses.replace(self._settings, mon_host=self._mon_host())
        self._settings.write()
        monmap = self.folder / "monmap"
        self.run("ceph-mon", "-c", self.conf, "-i", "a", "--extract-monmap", monmap)
        self.run("monmaptool", "--rm", "a", monmap)
        self.run("monmaptool", "--addv", "a", self._settings.mon_host, monmap)
        self.run("ceph-mon", "-c", self.conf, "-i", "a", "--inject-monmap", monmap)
        for name in self.daemons:
            self.start(name)
        self._wait_up()

    # --- what an administrator does

    def create_pool(self, name: str) -> None:
        """Make a pool for images."""
        self.ceph("osd", "pool", "create", name, "8", "8")
        self.rbd("pool", "init", name)

    def create_erasure_pool(self, name: str) -> None:
        """Make an erasure-coded pool (2+1) for images' data; needs three OSDs."""
        self.ceph("osd", "erasure-code-profile", "set", "small", "k=2", "m=1", "crush-failure-domain=osd", "--force")
        self.ceph("osd", "pool", "create", name, "8", "8", "erasure", "small")
        self.ceph("osd", "pool", "set", name, "allow_ec_overwrites", "true")
        self.ceph("osd", "pool", "application", "enable", name, "rbd")

    def add_namespace(self, pool: str, namespace: str) -> None:
        """Make a namespace in a pool."""
        self.rbd("namespace", "create", f"{pool}/{namespace}")

    def set_quota(self, pool: str, *, max_bytes: int = 0, max_objects: int = 0) -> None:
        """Set a pool's quota; 0 means none. Whether it is full is found within seconds (`wait_full`)."""
        self.ceph("osd", "pool", "set-quota", pool, "max_bytes", str(max_bytes))
        self.ceph("osd", "pool", "set-quota", pool, "max_objects", str(max_objects))

    def wait_full(self, pool: str, *, full: bool = True) -> None:
        """Wait until the cluster has noticed that the pool is full, or no longer is."""

        def noticed() -> bool:
            pools = json.loads(self.ceph("osd", "dump", "--format=json"))["pools"]
            flags = next(entry["flags_names"] for entry in pools if entry["pool_name"] == pool)
            return ("full_quota" in flags) is full

        process.wait_until(noticed, seconds=60, what=f"pool {pool} to be {'full' if full else 'free'}")

    def rotate_key(self) -> str:
        """Give `client.csi` another key; the new one. Connections that are open go on for a while."""
        secret = self.run("ceph-authtool", "--gen-print-key").strip()
        caps = {"mon": "profile rbd", "osd": "profile rbd", "mgr": "profile rbd"}
        keyring = self.folder / "rotated.keyring"
        _write_keyring(keyring, {f"client.{USER}": (secret, caps)})
        self.ceph("auth", "import", "-i", str(keyring))
        self.run("ceph-authtool", self.folder / "keyring", "--import-keyring", keyring)
        return secret

    def _mon_host(self) -> str:
        with socket.socket() as first, socket.socket() as second:
            for opened in (first, second):
                opened.bind(("127.0.0.1", 0))
            ports = [opened.getsockname()[1] for opened in (first, second)]
        return f"[v2:{self._address}:{ports[0]},v1:{self._address}:{ports[1]}]"

    def key_of(self, user: str) -> str:
        """The key of `client.admin` or `client.csi`."""
        return self.run("ceph-authtool", "--print-key", "--name", user, self.folder / "keyring").strip()

    def tails(self, lines: int = 15) -> str:
        """The end of every daemon's log."""
        return "\n".join(daemon.tail(lines) for daemon in self.daemons.values())

    def close(self) -> None:
        """End the daemons; a cluster of a sandbox ends with that, unless it is closed before."""
        for daemon in self.daemons.values():
            daemon.kill()
        if self._owned:
            self._ground.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _write_keyring(path: Path, entries: dict[str, tuple[str, dict[str, str]]]) -> None:
    lines: list[str] = []
    for user, (secret, caps) in entries.items():
        lines += [f"[{user}]", f"\tkey = {secret}", *(f'\tcaps {kind} = "{text}"' for kind, text in caps.items())]
    path.touch(mode=0o600)
    path.write_text("\n".join([*lines, ""]))


@pytest.fixture(scope="session")
def ceph() -> Iterator[CephCluster]:
    """One cluster for all tests that do not trouble it; import it into a conftest to have it."""
    needs.require(NEEDS)
    try:
        cluster = CephCluster()
    except errors.MissingNeedError as missing:
        pytest.skip(str(missing))
    with cluster:
        yield cluster
        # A connection in a cycle that nobody has collected would be ended by the interpreter, with nobody to talk to.
        gc.collect()
