"""The process that holds one sandbox and takes it away, whatever happens to whoever asked for it.

    runner ──stdin pipe──▶ keeper ──parent──▶ unshare ──▶ init (pid 1 of the sandbox) ; every component is its child

The keeper ends the sandbox when its stdin ends: the runner closed it, raised, was interrupted or was killed with -9.
(`keep` written there first lets the sandbox stay until SIGTERM.) Ending means: let go of the files that daemons in
the sandbox serve, and of the loop devices over them, which are the machine's; kill the init, with which the kernel ends
every process, mount and network device of the sandbox; wait until it has; remove the control groups; remove the folder.
Were the keeper itself killed, the kernel kills unshare and init, and the next sandbox sweeps the folder: the keeper
inherited an open file that holds the folder's lock, and with the keeper the lock ends.

Runs by itself, with the standard library alone: `keeper.py FOLDER CGROUP`.
"""

import contextlib
import ctypes
import fcntl
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

KEEP = b"keep\n"
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_END_SECONDS = 30
_BREAK = 'mount -t fusectl none /sys/fs/fuse/connections && echo 1 >"/sys/fs/fuse/connections/$1/abort"'
_CGROUPS = Path("/sys/fs/cgroup")
_BLOCK = Path("/sys/block")


def main(folder: Path, cgroup: str) -> None:
    """Hold the sandbox of this folder until told otherwise."""
    os.setsid()
    # The init outlives unshare by the time the kernel takes to end its processes, and is then ours to wait for.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    (folder / "keeper.pid").write_text(str(os.getpid()))
    unshare = subprocess.Popen(
        [
            *("unshare", "--net", "--mount", "--pid", "--ipc", "--propagation", "private", "--mount-proc"),
            *("--fork", "--kill-child=SIGKILL"),
            *(sys.executable, "-I", Path(__file__).with_name("init.py"), folder),
        ],
        stdin=subprocess.DEVNULL,
        preexec_fn=_die_with_the_keeper,  # noqa: PLW1509  (there is one thread only)
    )
    (folder / "unshare.pid").write_text(str(unshare.pid))
    try:
        _until_told(unshare)
    finally:
        _let_go_of_served_files(unshare.pid)
        unshare.kill()
        unshare.wait()
        _wait_for_the_init()
        remove(folder, cgroup)
        remove_base(folder.parent)


def _die_with_the_keeper() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _until_told(unshare: subprocess.Popen[bytes]) -> None:
    ended, asked = os.pidfd_open(unshare.pid), sys.stdin.fileno()
    ready, _, _ = select.select([ended, asked], [], [])
    if asked in ready and os.read(asked, len(KEEP)) == KEEP:
        select.select([ended], [], [])


def _let_go_of_served_files(unshare: int) -> None:
    """Break the connections of the sandbox's FUSE files, and detach the loop devices over them.

    A daemon that is killed together with the last mount of what it serves would wait for itself: the mount is
    given up, and written out, before its connection is. Only sysfs is asked which file is behind a loop device, for
    the device itself would ask the daemon.
    """
    with contextlib.suppress(OSError, IndexError, subprocess.SubprocessError):
        init = Path(f"/proc/{unshare}/task/{unshare}/children").read_text().split()[0]
        ours, theirs = _fuse_files(Path("/proc/self/mountinfo")), _fuse_files(Path(f"/proc/{init}/mountinfo"))
        served = {file: number for file, number in theirs.items() if file not in ours}
        loops = [entry for entry in _BLOCK.glob("loop*/loop/backing_file") if entry.read_text().strip() in served]
        for number in served.values():
            breaking = ["unshare", "--mount", "--propagation=private", "sh", "-c", _BREAK, "sh", number]
            subprocess.run(breaking, check=False, timeout=10)
        for entry in loops:
            subprocess.run(["losetup", "--detach", f"/dev/{entry.parts[3]}"], check=False, timeout=10)


def _fuse_files(mountinfo: Path) -> dict[str, str]:
    """Where FUSE filesystems are mounted in a mount namespace, and the numbers of their connections."""
    lines = [line.split() for line in mountinfo.read_text().splitlines()]
    return {words[4]: words[2].partition(":")[2] for words in lines if words[words.index("-") + 1] == "fuse"}


def _wait_for_the_init() -> None:
    """Return when the sandbox's process 1 is gone, and so each of its processes: the kernel ends it last."""
    deadline = time.monotonic() + _END_SECONDS
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < deadline:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.01)


def remove(folder: Path, cgroup: str) -> None:
    """Remove what a sandbox without processes leaves: its control groups and its folder."""
    for top in cgroups(cgroup):
        _remove_cgroup(top)
    if _has_mounts(folder):
        raise SystemExit(f"{folder} is not removed: something is mounted below it in this mount namespace")
    shutil.rmtree(folder, ignore_errors=True)


def remove_base(base: Path) -> None:
    """Remove the folder of all sandboxes if this was the last one."""
    with contextlib.suppress(OSError):
        opened = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(opened, fcntl.LOCK_EX)
        base.rmdir()


def cgroups(cgroup: str) -> list[Path]:
    """The sandbox's control groups that there are."""
    return [hierarchy / cgroup for hierarchy in _hierarchies() if (hierarchy / cgroup).is_dir()]


def _hierarchies() -> list[Path]:
    """One folder per control group hierarchy: several in version 1, one in version 2."""
    if (_CGROUPS / "cgroup.controllers").exists():
        return [_CGROUPS]
    return [path for path in _CGROUPS.iterdir() if path.is_dir() and not path.is_symlink()]


def _remove_cgroup(top: Path) -> None:
    deadline = time.monotonic() + 10
    while top.is_dir() and time.monotonic() < deadline:
        for path, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):  # a process that was just killed is still leaving
                Path(path).rmdir()
        if top.is_dir():
            time.sleep(0.05)


def make_cgroups(cgroup: str) -> None:
    """The control groups below which a kubelet puts its Pods', in every hierarchy."""
    for hierarchy in _hierarchies():
        top = hierarchy / cgroup
        top.mkdir(exist_ok=True)
        if (top / "cgroup.subtree_control").exists():
            _hand_down(hierarchy)
            _hand_down(top)
        elif (top / "cpuset.cpus").exists():
            for name in ("cpuset.cpus", "cpuset.mems"):
                (top / name).write_text((hierarchy / name).read_text())


def _hand_down(group: Path) -> None:
    """Let the groups below have every controller that this one has (version 2)."""
    for controller in (group / "cgroup.controllers").read_text().split():
        with contextlib.suppress(OSError):
            (group / "cgroup.subtree_control").write_text(f"+{controller}")


def _has_mounts(folder: Path) -> bool:
    with Path("/proc/self/mountinfo").open() as lines:
        return any(f"{line.split()[4]}/".startswith(f"{folder}/") for line in lines)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
