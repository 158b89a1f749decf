"""Whether a volume is mounted anywhere that this process can see.

Two tables of mounts are looked through: this process's own, which with the kubelet's directory shared both ways
(mountPropagation: Bidirectional) holds all published volumes, and that of the init process, which is the host's where
the driver has the host's process namespace. A mount is a volume's if it shows its directory, or one below it (subPath),
wherever it is. What other nodes have mounted of a shared pool cannot be seen; there the PersistentVolume's own
protection is what keeps a volume in use from being deleted.
"""

from pathlib import Path

from provisioner import errors
from provisioner.backends.directory import ids
from provisioner.node import mountinfo


def refuse_in_use(volume_dir: int, volume: ids.DirectoryId) -> None:
    """Refuse to go on where the volume with this open directory is mounted, or something is mounted in it.

    Raises:
        errors.VolumeInUseError: names where.
    """
    own = mountinfo.mount_of(volume_dir)
    root = mountinfo.filesystem_path(volume_dir, own)
    path = mountinfo.path_of(volume_dir)
    for table in _tables():
        for mount in mountinfo.mounts(containing=str(volume), table=table):
            inside = Path(mount.mount_point).is_relative_to(path)
            if mount.shows(own.device, root) or inside:
                raise errors.VolumeInUseError(
                    f"volume {volume} is in use: it is mounted at {mount.mount_point}"
                    if not inside
                    else f"volume {volume} is in use: something is mounted in it, at {mount.mount_point}",
                    remedy="delete the Pod that uses it, or unmount it",
                )


def _tables() -> list[Path]:
    """The mount tables to look through; the init process's only where it is another one and may be read."""
    try:
        other = Path("/proc/1/ns/mnt").readlink() != Path("/proc/self/ns/mnt").readlink()
    except OSError:
        other = False
    return [mountinfo.SELF, mountinfo.HOST] if other else [mountinfo.SELF]
