"""The program as its operator meets it: a process with flags, signals, exit codes and endpoints."""

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc import aio

from provisioner.generated import csi_pb2, csi_pb2_grpc
from tests.fakes import directory_pools

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the pool of a running driver belongs to root: run as root")

_CREATING = 'provisioner_csi_operations_in_flight{method_name="/csi.v1.Controller/CreateVolume"} 1.0'
PROVISIONER = (sys.executable, "-m", "provisioner")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROVISIONER, *arguments],
        capture_output=True,
        check=False,
        text=True,
        timeout=30,
        env={**os.environ, **environment},
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Running:
    """One process of `serve`, without a cluster."""

    def __init__(self, home: Path, *more: str) -> None:
        self.home, self.more = home, more
        self.port = free_port()
        (home / "kubelet").mkdir(exist_ok=True)
        self.process = subprocess.Popen([*PROVISIONER, *self.arguments(self.port)], stderr=subprocess.PIPE, text=True)

    def arguments(self, port: int) -> list[str]:
        return [
            "serve",
            "--watch=none",
            f"--pool=default={self.home}/pool",
            "--init-pools",
            "--node-name=node1",
            f"--csi-socket={self.home}/csi.sock",
            f"--kubelet-dir={self.home}/kubelet",
            f"--metrics-address=127.0.0.1:{port}",
            *self.more,
        ]

    def get(self, path: str) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return str(error.read().decode())

    def until(self, path: str, expected: str) -> None:
        deadline = time.monotonic() + 20
        answer = ""
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                if expected in (answer := self.get(path)):
                    return
            time.sleep(0.02)
        raise AssertionError(f"{path} never said {expected!r}, last: {answer!r}")

    def end(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        _, errors = self.process.communicate(timeout=10)
        sys.stderr.write(errors)
        return self.process.returncode


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory whose path is short enough for sockets below it."""
    with tempfile.TemporaryDirectory(prefix="p") as directory:
        yield Path(directory)


@pytest.fixture
def running(home: Path) -> Iterator[Running]:
    (home / "kubelet" / "plugins_registry").mkdir(parents=True)
    started = Running(home)
    try:
        yield started
    finally:
        started.end()


def test_help_tells_each_command_and_each_setting_with_its_default() -> None:
    assert "serve" in run("--help").stdout
    text = " ".join(run("node", "--help").stdout.split())
    assert "--trash-retention DURATION" in text
    assert "[default: 24h]" in text


def test_wrong_settings_end_the_program_with_every_fault_named() -> None:
    ended = run("serve", "--csi-workers=none", PROVISIONER_BINDING="fast")
    assert ended.returncode == 2
    assert "--csi-workers: 'none' is not a whole number from 1 on" in ended.stderr
    assert "PROVISIONER_BINDING: 'fast' is not one of eager, controller" in ended.stderr


def test_values_that_cannot_be_read_do_not_hide_settings_that_do_not_go_together() -> None:
    ended = run("serve", "--csi-workers=none", "--driver-name=../X", "--pool=unnamed")
    found = [line.strip() for line in ended.stderr.splitlines() if line.strip().startswith("--")]
    assert [line.partition(":")[0] for line in found] == ["--csi-workers", "--pool", "--driver-name", "--node-name"]


def test_settings_that_do_not_go_together_are_refused_with_the_way_out() -> None:
    ended = run("controller", "--pool=Default/..=relative")
    assert ended.returncode == 2
    assert "--pool: 'Default/..' is not a name of lower-case letters, digits and '-'" in ended.stderr
    assert "--pool: relative is not an absolute path" in ended.stderr
    assert "--shared-pools: without it the pools are a node's own" in ended.stderr


def test_a_driver_name_that_kubernetes_refuses_and_pools_in_one_place_are_refused() -> None:
    ended = run("serve", "--driver-name=../My_Driver", "--pool=a=/srv/pool,b=/srv/pool/", "--node-name=n")
    assert ended.returncode == 2
    assert "--driver-name: '../My_Driver' is not a name of up to 63 lower-case letters" in ended.stderr
    assert "--pool: /srv/pool is the directory of several pools" in ended.stderr


def test_times_with_which_nothing_could_work_are_refused() -> None:
    ended = run(
        "serve",
        "--pool=a=/srv/pool",
        "--node-name=n",
        "--csi-timeout=0s",
        "--request-timeout=0s",
        "--retry-interval-min=10s",
        "--retry-interval-max=5s",
    )
    assert ended.returncode == 2
    assert "--csi-timeout: it must be longer than nothing" in ended.stderr
    assert "--request-timeout: it must be longer than nothing" in ended.stderr
    assert "--retry-interval-max: it is shorter than --retry-interval-min" in ended.stderr


def test_a_config_file_that_is_not_yaml_is_named(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("pool: {a: [")
    ended = run("serve", f"--config={config}")
    assert ended.returncode == 2
    assert f"--config {config}: it cannot be read as YAML" in ended.stderr


def test_sigterm_ends_the_process_with_0_and_takes_its_sockets_away(
    running: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    running.until("/readyz", "[+] storage")
    assert running.end() == 0
    assert "thread_left_hanging" not in capsys.readouterr().err
    assert not (running.home / "csi.sock").exists()
    assert list((running.home / "kubelet" / "plugins_registry").iterdir()) == []


async def test_sigterm_ends_the_process_in_under_10_seconds_though_a_create_hangs(running: Running) -> None:
    await asyncio.to_thread(running.until, "/readyz", "[+] storage")
    mode = csi_pb2.VolumeCapability.AccessMode(mode=csi_pb2.VolumeCapability.AccessMode.SINGLE_NODE_WRITER)
    capability = csi_pb2.VolumeCapability(mount=csi_pb2.VolumeCapability.MountVolume(), access_mode=mode)
    request = csi_pb2.CreateVolumeRequest(name="pvc-1", volume_capabilities=[capability])
    lock = os.open(running.home / "pool" / ".lock", os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        async with aio.insecure_channel(f"unix:{running.home}/csi.sock") as channel:
            call = csi_pb2_grpc.ControllerStub(channel).CreateVolume(request, timeout=60)
            await asyncio.to_thread(running.until, "/metrics", _CREATING)
            assert await asyncio.to_thread(running.end) == 0
            assert await call.code() is grpc.StatusCode.UNAVAILABLE
    finally:
        os.close(lock)


def test_readiness_waits_for_the_kubelet_and_says_so(running: Running) -> None:
    running.until("/readyz", "[-] kubelet: the kubelet has not registered the driver yet")
    assert running.get("/healthz") == "ok\n"


def test_a_pool_that_cannot_be_made_keeps_no_other_from_being_emptied(home: Path) -> None:
    (home / "bad").mkdir()
    (home / "bad" / "something").touch()
    backend = directory_pools.directory_backend(home, names=("good",))
    backend.delete(backend.create(directory_pools.request()).id)
    started = Running(home, f"--pool=bad={home}/bad,good={home}/good", "--trash-retention=0s")
    try:
        started.until("/metrics", 'provisioner_pool_bytes{pool="good",state="promised"} 0.0')
    finally:
        started.end()
    assert [*(home / "good" / "trash").iterdir()] == []


def test_metrics_are_served_under_the_stock_names(running: Running) -> None:
    running.until("/readyz", "[+] storage")
    assert "controller_persistentvolumeclaim_provision_total" in running.get("/metrics")
    running.until("/metrics", 'provisioner_pool_bytes{pool="default"')


def test_a_second_start_on_the_same_socket_is_refused_and_the_first_serves_on(running: Running) -> None:
    running.until("/readyz", "[+] storage")
    ended = run(*running.arguments(free_port()))
    assert ended.returncode == 1
    assert f"another process serves {running.home}/csi.sock already" in ended.stderr
    assert "[+] storage" in running.get("/readyz")


def test_a_missing_plugin_registry_is_named_and_noticed_when_it_appears(home: Path) -> None:
    registry = home / "kubelet" / "plugins_registry"
    started = Running(home)
    try:
        started.until("/readyz", f"the kubelet's plugin registry {registry} does not exist")
        registry.mkdir()
        started.until("/readyz", "the kubelet has not registered the driver yet")
    finally:
        started.end()


def test_a_process_killed_hard_leaves_a_socket_that_the_next_one_takes_over(running: Running) -> None:
    running.until("/readyz", "[+] storage")
    running.process.kill()
    running.process.communicate()
    again = Running(running.home)
    try:
        again.until("/readyz", "[+] storage")
    finally:
        assert again.end() == 0


@pytest.mark.parametrize(("log_format", "first"), [("json", "{"), ("console", "2")])
def test_lines_are_json_for_machines_or_text_for_people(home: Path, log_format: str, first: str) -> None:
    started = Running(home, f"--log-format={log_format}")
    try:
        started.until("/readyz", "the kubelet's plugin registry")
    finally:
        started.process.send_signal(signal.SIGTERM)
        _, lines = started.process.communicate(timeout=10)
    assert {line[0] for line in lines.splitlines()} == {first}
