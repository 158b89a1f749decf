"""Which places on this node show a device: the mounts of its filesystem, and files that its node is mounted on."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from provisioner.node import mountinfo

_DEVICE_FILESYSTEMS = frozenset({"devtmpfs", "tmpfs"})


def number(device: Path) -> str:
    """The "major:minor" of the device, as mountinfo has it.

    Raises:
        OSError: there is no such device.
    """
    found = device.stat().st_rdev
    return f"{os.major(found)}:{os.minor(found)}"


def mounts_of(device: Path) -> Sequence[mountinfo.Mount]:
    """The mounts of the device's filesystem, the first one first."""
    wanted = number(device)
    return [mount for mount in mountinfo.mounts(containing=wanted) if mount.device == wanted]


def bindings_of(device: Path) -> Sequence[mountinfo.Mount]:
    """The mounts of the device's own node over files."""
    wanted = device.stat().st_rdev
    return [
        mount
        for mount in mountinfo.mounts(containing=f"/{device.name} ")
        if mount.fs_type in _DEVICE_FILESYSTEMS and _shows(mount, wanted)
    ]


def is_writable(device: Path) -> bool:
    """Whether the kernel takes writes to the device."""
    return Path("/sys/dev/block", number(device), "ro").read_text(encoding="ascii").strip() == "0"


def _shows(mount: mountinfo.Mount, device: int) -> bool:
    try:
        found = os.lstat(mount.mount_point)
    except OSError:
        return False
    return stat.S_ISBLK(found.st_mode) and found.st_rdev == device
