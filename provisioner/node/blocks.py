"""Publishes raw block volumes: the device's node, mounted over a file at the path that the kubelet names."""

import contextlib
import os
import stat
from pathlib import Path

from provisioner import errors, linux, model
from provisioner.node import mountinfo, mounts, targets


def publish(volume_id: model.VolumeId, device: Path, path: Path) -> None:
    """Make the device appear at the path. Idempotent.

    Raises:
        errors.InvalidRequestError: a directory or a symlink is there, or no parent.
        errors.VolumeExistsError: something else is mounted there.
        OSError: it cannot be mounted.
    """
    with targets.file(path) as target:
        if target.mount() is not None:
            _check_existing(volume_id, device, target)
            return
        source = os.open(device, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if not stat.S_ISBLK(os.fstat(source).st_mode):
                raise errors.BackendUnavailableError(f"{device} is no block device", remedy="look at the node's /dev")
            if linux.can_clone_mounts():
                mounts.bind(source, target.fd, frozenset())
            else:
                linux.mount(f"/proc/self/fd/{source}", f"/proc/self/fd/{target.fd}", linux.MS_BIND)
        finally:
            os.close(source)


def unpublish(path: Path) -> None:
    """Take the device from the path, and the file away. Missing is not an error.

    Raises:
        errors.BackendUnavailableError: there is a file that holds something, or no file at all.
        OSError: it cannot be unmounted.
    """
    with contextlib.suppress(FileNotFoundError), targets.parent(path) as parent_fd:
        mounts.unmount_all(f"/proc/self/fd/{parent_fd}/{path.name}")
        left = os.stat(path.name, dir_fd=parent_fd, follow_symlinks=False)
        if not stat.S_ISREG(left.st_mode) or left.st_size:
            raise errors.BackendUnavailableError(
                f"{path} was unmounted, and what is left there is not the driver's",
                remedy="move it away: it is never removed automatically",
            )
        os.unlink(path.name, dir_fd=parent_fd)


def is_block(path: Path) -> bool:
    """Whether what is at the path is for a raw block volume: a device, or the file beneath one; not followed."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        mode = os.lstat(path).st_mode
        return stat.S_ISBLK(mode) or stat.S_ISREG(mode)
    return False


def _check_existing(volume_id: model.VolumeId, device: Path, target: targets.Target) -> None:
    shown = os.fstat(target.fd)
    if stat.S_ISBLK(shown.st_mode) and shown.st_rdev == device.stat().st_rdev:
        return
    mount = mountinfo.mount_of(target.fd)
    raise errors.VolumeExistsError(
        f"something else than volume {volume_id} is mounted at {target.path}: {mount.root} of {mount.fs_type}",
        remedy="unmount it",
    )
