"""The drivers that are held to CSI: each a process of its own, in a mount namespace of its own, on a real socket."""

import asyncio
import contextlib
import dataclasses
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import yaml

from provisioner import csiclient, metrics, model
from tests.conformance import sanity
from tests.harness import ceph as ceph_cluster
from tests.harness import needs, tools

_START_SECONDS = 30
_STOP_SECONDS = 15
_PROGRAMS = (
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("losetup", "mount"),
    ("mkfs.ext4", "e2fsprogs"),
)
_CLASS = {"clusterID": "test", "pool": ceph_cluster.POOL}
# Devices have room for a filesystem.
_SUITES = {
    "full": sanity.Suite(volume_size=32 * model.MIB),
    "full-block": sanity.Suite(volume_size=32 * model.MIB, access_type="block"),
    "rbd": sanity.Suite(volume_size=32 * model.MIB, parameters=_CLASS),
    "rbd-block": sanity.Suite(volume_size=32 * model.MIB, parameters=_CLASS, access_type="block"),
}
ceph = ceph_cluster.ceph


@dataclasses.dataclass(frozen=True)
class Driver:
    """A driver that runs.

    Attributes:
        suite: how csi-sanity has to ask it.
    """

    socket: Path
    pid: int
    log: Path
    suite: sanity.Suite = sanity.Suite()


@pytest.fixture(scope="session")
def csi_sanity() -> Path:
    """The program; without it the tier is skipped with one line, or fails where CI must have everything."""
    program = _find_csi_sanity()
    missing = [
        *(["root (it mounts)"] if os.geteuid() != 0 else []),
        *(f"{name} (apt-get install {package})" for name, package in _PROGRAMS if not shutil.which(name)),
        *(["csi-sanity (make setup builds it, or CSI_SANITY=/path/to/it)"] if program is None else []),
    ]
    if missing or program is None:
        told = f"SKIPPED: conformance needs {'; '.join(missing)}"
        if os.environ.get("CI") == "true":
            pytest.fail(told)
        pytest.skip(told)
    return program


@pytest.fixture(params=["memory", "full", "full-block", "directory", "rbd", "rbd-block"])
def driver(request: pytest.FixtureRequest, csi_sanity: Path, tmp_path: Path) -> Iterator[Driver]:
    """A driver with nothing in it yet."""
    socket = tmp_path / "csi.sock"
    suite = _SUITES.get(request.param, sanity.Suite())
    if request.param in {"rbd", "rbd-block"}:
        command = _rbd_driver(socket, tmp_path, request.getfixturevalue("ceph"))
    else:
        command = _COMMANDS[request.param](socket, tmp_path)
    with _running(command, socket, tmp_path / "log", suite) as running:
        yield running


@pytest.fixture
def fragile(tmp_path: Path) -> Iterator[tuple[ceph_cluster.CephCluster, Driver]]:
    """A cluster of the test's own, to be troubled, and a driver on it."""
    needs.require(ceph_cluster.NEEDS)
    socket = tmp_path / "csi.sock"
    with (
        ceph_cluster.CephCluster() as cluster,
        _running(_rbd_driver(socket, tmp_path, cluster), socket, tmp_path / "log", _SUITES["rbd"]) as running,
    ):
        yield cluster, running


def _memory_driver(socket: Path, scratch: Path) -> Sequence[str | Path]:
    data = scratch / "data"
    data.mkdir()
    return sys.executable, "-m", "tests.conformance.serve_driver", socket, data


def _full_driver(socket: Path, scratch: Path) -> Sequence[str | Path]:
    """Everything that a driver of ours can announce."""
    return *_memory_driver(socket, scratch), "--full"


def _directory_driver(socket: Path, scratch: Path) -> Sequence[str | Path]:
    """The program as users run it on a node, where stock sidecars are the watcher."""
    return (
        *(sys.executable, "-m", "provisioner", "node", "--node-name=node-1"),
        *(f"--pool=default={scratch / 'pool'}", "--init-pools"),
        *(f"--csi-socket={socket}", "--metrics-address=127.0.0.1:0"),
        *("--no-registration", "--watch=none"),
    )


_COMMANDS: Mapping[str, Callable[[Path, Path], Sequence[str | Path]]] = {
    "memory": _memory_driver,
    "full": _full_driver,
    "full-block": _full_driver,
    "directory": _directory_driver,
}


def _rbd_driver(socket: Path, scratch: Path, cluster: ceph_cluster.CephCluster) -> Sequence[str | Path]:
    """Images on a real cluster."""
    clusters = scratch / "clusters.yaml"
    clusters.touch(mode=0o600)
    known = {"clusterID": "test", "monitors": list(cluster.monitors), "user": ceph_cluster.USER, "key": cluster.key}
    clusters.write_text(yaml.safe_dump([known]))
    return *_memory_driver(socket, scratch), "--rbd", clusters


@contextlib.contextmanager
def _running(command: Sequence[str | Path], socket: Path, log: Path, suite: sanity.Suite) -> Iterator[Driver]:
    with log.open("w") as output:
        process = subprocess.Popen(
            ["unshare", "--mount", "--propagation=private", *command],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        _await_driver(socket, process, log)
        yield Driver(socket, process.pid, log, suite)
    finally:
        process.terminate()
        try:
            status = process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
    assert status == 0, log.read_text()


def _await_driver(socket: Path, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not asyncio.run(_answers(socket)):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the driver does not answer; its log:\n{log.read_text()}")
        time.sleep(0.05)


async def _answers(socket: Path) -> bool:
    client = csiclient.GrpcClient(str(socket), measured=metrics.Metrics())
    try:
        return await client.probe(timeout=5)
    except csiclient.CallError:
        return False
    finally:
        await client.close()


def _find_csi_sanity() -> Path | None:
    named = os.environ.get("CSI_SANITY") or shutil.which("csi-sanity")
    if named:
        return Path(named)
    built = tools.present()
    return None if built is None else built["csi-sanity"]
