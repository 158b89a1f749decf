"""The harness itself: what the other tests of this tier stand on."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import control_plane as harness
from tests.harness import process, sandbox, tools

_HOLDS_A_SANDBOX = """
import sys, time
from tests.harness import sandbox
box = sandbox.Sandbox()
print(box.folder, box.start("sleep", ["/bin/sleep", "600"]).pid, flush=True)
time.sleep(600)
"""

_SERVES_A_DEVICE = """
truncate --size=64M /run/image
touch /run/disk
qemu-storage-daemon --daemonize --blockdev driver=file,node-name=image,filename=/run/image \
  --export type=fuse,id=export,node-name=image,mountpoint=/run/disk,writable=on
device=$(losetup --find --show /run/disk)
mkfs.ext4 -q "$device"
mkdir /run/mounted
mount "$device" /run/mounted
echo "$device"
"""

_HOLDS_MEMORY = """
import time
held = b"x" * 2**28
print("full", flush=True)
time.sleep(600)
"""


def test_the_control_plane_serves_the_pinned_version(control_plane: harness.ControlPlane) -> None:
    assert control_plane.raw("/version")["gitVersion"] == tools.kubernetes_version()


def test_a_service_account_s_kubeconfig_has_its_rights_and_no_more(
    control_plane: harness.ControlPlane, namespace: str
) -> None:
    control_plane.kubectl("create", "serviceaccount", "nobody", f"--namespace={namespace}")
    kubeconfig = control_plane.kubeconfig_for_service_account(namespace, "nobody")
    may = control_plane.kubectl("auth", "can-i", "list", "nodes", kubeconfig=kubeconfig, check=False)
    assert may.strip() == "no"


def test_a_sandbox_ends_with_everything_in_it_when_its_runner_is_killed() -> None:
    runner = subprocess.Popen(
        [sys.executable, "-c", _HOLDS_A_SANDBOX], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )
    folder, pid = runner.stdout.readline().split() if runner.stdout else ("", "")
    assert Path(folder).is_dir()

    runner.kill()
    runner.communicate(timeout=10)

    process.wait_until(lambda: not Path(folder).exists(), seconds=10, what="the sandbox's folder to go")
    assert not Path("/proc", pid).exists()


def test_a_sandbox_has_ended_when_it_is_closed() -> None:
    with sandbox.Sandbox() as box:
        # So much memory takes the kernel a while to free.
        full = box.start("full", [sys.executable, "-c", _HOLDS_MEMORY])
        process.wait_until(lambda: "full" in full.log.read_text(), seconds=20, what="the memory to be full")
    assert not Path("/proc", str(box.init_pid)).exists()


@pytest.mark.skipif(shutil.which("qemu-storage-daemon") is None, reason="apt-get install qemu-system-common")
def test_a_sandbox_leaves_no_loop_device_over_a_file_that_was_served_in_it() -> None:
    with sandbox.Sandbox() as box:
        device = box.run(["/bin/sh", "-ec", _SERVES_A_DEVICE]).stdout.strip()
        assert Path("/sys/block", device.removeprefix("/dev/"), "loop").exists()
    # The mount goes with the sandbox, and the kernel then lets go of the device.
    gone = Path("/sys/block", device.removeprefix("/dev/"), "loop/backing_file")
    process.wait_until(lambda: not gone.exists(), seconds=10, what=f"{device} to be detached")


def test_a_sandbox_whose_keeper_was_killed_is_swept_by_the_next_one() -> None:
    left = sandbox.Sandbox()
    component = left.start("sleep", ["/bin/sleep", "600"])
    pid = component.pid
    os.kill(int((left.folder / "keeper.pid").read_text()), signal.SIGKILL)
    component.wait(10)

    with sandbox.Sandbox():
        assert not left.folder.exists()
    left.close()
    assert not Path("/proc", str(pid)).exists()
