"""Mounts for tests, in a mount namespace of the test process's own: none is left behind, whatever happens."""

import ctypes
import functools
import os
import subprocess
from pathlib import Path

import pytest

_CLONE_NEWNS = 0x00020000


@functools.cache
def enter_private_namespace() -> None:
    """Leave the machine's mount namespace, once and for the rest of the process; skip where that is not allowed."""
    if os.geteuid() != 0:
        pytest.skip("needs root: mounts are made; run the tests as root")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0:
        pytest.skip(f"needs CAP_SYS_ADMIN: no mount namespace can be made: {os.strerror(ctypes.get_errno())}")
    run("mount", "--make-rprivate", "/")


def run(*command: str | Path) -> None:
    """Run a program to its end; what it says is shown where it fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def bind(source: Path, target: Path) -> None:
    """Bind-mount a directory or a file."""
    run("mount", "--bind", source, target)


def tmpfs(target: Path, *options: str) -> None:
    """Mount an empty memory filesystem."""
    run("mount", "-t", "tmpfs", "-o", ",".join(options or ("size=16m",)), "none", target)


def unmount(target: Path) -> None:
    """Unmount what is uppermost at the path."""
    run("umount", target)


def image(path: Path, *, kind: str = "ext4", mebibytes: int = 32) -> Path:
    """A filesystem in a file, to be mounted with `mount_image`."""
    with path.open("wb") as file:
        file.truncate(mebibytes << 20)
    run(f"mkfs.{kind}", "-q", path)
    return path


def mount_image(path: Path, target: Path, *options: str) -> None:
    """Mount a filesystem that lies in a file; its loop device goes with the mount."""
    run("mount", "-o", ",".join(("loop", *options)), path, target)
