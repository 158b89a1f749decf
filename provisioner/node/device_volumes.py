"""Everything that a node does with staged volumes: given to Pods, measured, watched and grown.

The device is asked from the backend at each call, and the paths from mountinfo: a restart changes nothing.
"""

import dataclasses
import os
import stat
from collections.abc import Callable
from pathlib import Path

from provisioner import errors, model
from provisioner.backends import base, commands
from provisioner.node import blocks, devices, filesystems, mountinfo, mounts, publisher, requests, staging


class DeviceVolumes:
    """One node's staged volumes. Calls for one volume must not overlap; `node.service` sees to that.

    `steps` is told each step that was reached, so that a test can stop the process there.
    """

    def __init__(
        self,
        backend: base.DeviceBackend,
        *,
        runner: commands.Runner | None = None,
        steps: Callable[[str], None] = lambda _step: None,
    ) -> None:
        self._backend = backend
        self._runner = runner or commands.System()
        self._steps = steps
        self._stager = staging.Stager(backend, self._runner, steps=steps)

    def stage(self, request: requests.StageRequest) -> None:
        """Make the volume ready at the staging path, as `Stager.stage`."""
        self._stager.stage(request)

    def unstage(self, volume_id: model.VolumeId, path: Path) -> None:
        """Take the volume from the staging path and the node, as `Stager.unstage`."""
        self._stager.unstage(volume_id, path)

    def publish(self, request: requests.PublishRequest) -> None:
        """Make the staged volume appear at the target path: its filesystem, or its device. Idempotent.

        Raises:
            errors.NotReadyError: it is not staged, or not there.
            errors.InvalidRequestError: a writable device cannot be given read-only.
            errors.VolumeExistsError: something else, or the same with other options, is mounted at the target.
            errors.VolumeInUseError: a single-writer volume is published at another target.
        """
        device = self._staged_device(request.volume_id)
        if request.capability.access_type is model.AccessType.MOUNT:
            self._publish_filesystem(request, device)
            return
        if request.read_only and devices.is_writable(device):
            raise errors.InvalidRequestError(
                "a block device that is attached for writing cannot be given to a Pod read-only",
                remedy="ask for the access mode ReadOnlyMany, or leave readOnly out",
            )
        if request.capability.access_mode is model.AccessMode.SINGLE_NODE_SINGLE_WRITER:
            _refuse_second_block(request, device)
        try:
            blocks.publish(request.volume_id, device, request.target)
        except OSError as error:
            raise errors.BackendUnavailableError(
                f"volume {request.volume_id} cannot be published at {request.target}: {error.strerror}"
            ) from error

    def unpublish(self, volume_id: model.VolumeId, target: Path) -> None:
        """Take the volume from the target path. Idempotent, and the volume itself is not looked for.

        Raises:
            errors.VolumeInUseError: a process of the node still works in it.
        """
        if not blocks.is_block(target):
            publisher.Publisher(_Staged(self._backend, target)).unpublish(volume_id, target)
            return
        try:
            blocks.unpublish(target)
        except OSError as error:
            raise errors.BackendUnavailableError(
                f"volume {volume_id} cannot be unpublished from {target}: {error.strerror}"
            ) from error

    def usage(self, volume_id: model.VolumeId, path: Path) -> model.Usage:
        """How full the volume is that is staged or published at the path; of a device only its size is known.

        Raises:
            errors.VolumeNotFoundError: it is not there.
        """
        device, shown = self._shown(volume_id, path)
        if stat.S_ISBLK(shown.st_mode):
            return model.Usage(total=filesystems.size(device), used=0, available=0)
        room = os.statvfs(path)
        return model.Usage(
            total=room.f_blocks * room.f_frsize,
            used=(room.f_blocks - room.f_bfree) * room.f_frsize,
            available=room.f_bavail * room.f_frsize,
            inodes_total=room.f_files,
            inodes_used=room.f_files - room.f_ffree,
            inodes_available=room.f_favail,
        )

    def condition(self, volume_id: model.VolumeId, path: Path) -> model.Condition:
        """What is wrong with the volume: with its device, or with the filesystem that is mounted at the path."""
        condition = self._backend.condition(volume_id)
        if condition.abnormal or blocks.is_block(path):
            return condition
        mounted = mountinfo.mounts_at(path)
        if not mounted:
            return model.Condition(abnormal=True, message=f"nothing is mounted at {path}")
        if os.statvfs(path).f_flag & os.ST_RDONLY and not mounted[-1].read_only:
            return model.Condition(abnormal=True, message="the filesystem has met an error and takes no more writes")
        return condition

    def expand(self, request: requests.ExpandRequest) -> int:
        """Let the volume at the path have its present size; returns the device's size in bytes. Idempotent.

        Raises:
            errors.VolumeNotFoundError: it is not there.
            errors.NotReadyError: the volume itself has not grown so far yet.
        """
        device, shown = self._shown(request.volume_id, request.path)
        size = self._backend.refresh(request.volume_id)
        if size < request.size.required:
            raise errors.NotReadyError(
                f"volume {request.volume_id} has {size} bytes, and {request.size.required} were asked for",
                remedy="let the controller grow it first",
            )
        if stat.S_ISDIR(shown.st_mode):
            for mount in devices.mounts_of(device)[:1]:
                if devices.is_writable(device) and filesystems.needs_growth(device, mount.fs_type):
                    filesystems.grow(device, Path(mount.mount_point), mount.fs_type, self._runner)
        return size

    def topology(self) -> model.Topology | None:
        """Where this node stands; None where every node reaches every volume."""
        return self._backend.topology()

    def _publish_filesystem(self, request: requests.PublishRequest, device: Path) -> None:
        if request.staging is None:
            raise errors.NotReadyError("the request does not say where the volume is staged", remedy="stage it first")
        staged = mountinfo.mounts_at(request.staging.resolve())
        if not staged or staged[-1].device != devices.number(device):
            raise errors.NotReadyError(
                f"volume {request.volume_id} is not staged at {request.staging}", remedy="stage it first"
            )
        # The filesystem's own options were given when it was staged; a bind mount has only the general ones.
        given = (flag for entry in request.capability.mount_flags for flag in entry.split(","))
        flags = tuple(flag for flag in given if mounts.is_general(flag))
        inner = dataclasses.replace(request, capability=dataclasses.replace(request.capability, mount_flags=flags))
        publishing = publisher.Publisher(_Staged(self._backend, request.staging.resolve()), steps=self._steps)
        publishing.publish(inner)

    def _staged_device(self, volume_id: model.VolumeId) -> Path:
        device = self._backend.device(volume_id)
        if device is None:
            raise errors.NotReadyError(f"volume {volume_id} is not attached to this node", remedy="stage it first")
        return device

    def _shown(self, volume_id: model.VolumeId, path: Path) -> tuple[Path, os.stat_result]:
        """The volume's device, and what shows it at the path."""
        device = self._backend.device(volume_id)
        try:
            shown = path.lstat()
            number = None if device is None else device.stat().st_rdev
        except OSError:
            device = number = None
        if device is None or number != (shown.st_rdev if stat.S_ISBLK(shown.st_mode) else shown.st_dev):
            raise errors.VolumeNotFoundError(f"volume {volume_id} is not staged or published at {path}")
        return device, shown


class _Staged(base.NodeBackend):
    """A staged volume as the publisher sees volumes: a directory."""

    def __init__(self, backend: base.DeviceBackend, path: Path) -> None:
        self._backend = backend
        self._path = path

    def topology(self) -> model.Topology | None:
        """Where this node stands."""
        return self._backend.topology()

    def locate(self, volume_id: model.VolumeId) -> Path:
        """Where the volume is staged."""
        if self._backend.device(volume_id) is None:
            raise errors.VolumeNotFoundError(f"volume {volume_id} is not attached to this node")
        return self._path

    def usage(self, volume_id: model.VolumeId) -> model.Usage:
        """Not known by the directory."""
        raise errors.UnsupportedError(f"the usage of volume {volume_id} is that of its filesystem")


def _refuse_second_block(request: requests.PublishRequest, device: Path) -> None:
    for other in devices.bindings_of(device):
        if other.mount_point != str(request.target):
            raise errors.VolumeInUseError(
                f"volume {request.volume_id} is ReadWriteOncePod and published at {other.mount_point} already",
                remedy="wait until the Pod that uses it has gone, or ask for ReadWriteOnce",
            )
