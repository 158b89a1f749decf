"""Stages volumes that are block devices: attached, with a filesystem, mounted once per node (CSI "NodeStageVolume").

    attach → look → (record BEGUN → mkfs → record DONE) → mount → grow to the device

Each step is found done by the one that comes after a crash: the backend finds the device, libblkid the filesystem,
mountinfo the mount. A raw block volume is attached only.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from provisioner import errors, linux, model
from provisioner.backends import base, commands
from provisioner.node import devices, filesystems, formatting, mkfs_options, mountinfo, mounts, requests, targets

READ_ONLY_MODES = frozenset({model.AccessMode.SINGLE_NODE_READER_ONLY, model.AccessMode.MULTI_NODE_READER_ONLY})
_SHARED_MODES = frozenset({model.AccessMode.MULTI_NODE_MULTI_WRITER, model.AccessMode.MULTI_NODE_SINGLE_WRITER})
_MKFS_OPTIONS = "mkfsOptions"
_log = structlog.get_logger(__name__)


class Stager:
    """Stages one node's volumes. Calls for one volume must not overlap; `node.service` sees to that.

    `steps` is told each step that was reached, so that a test can stop the process there.
    """

    def __init__(
        self, backend: base.DeviceBackend, runner: commands.Runner, *, steps: Callable[[str], None] = lambda _step: None
    ) -> None:
        self._backend = backend
        self._runner = runner
        self._steps = steps
        self._formatter = formatting.Formatter(backend, runner, steps)

    def stage(self, request: requests.StageRequest) -> None:
        """Make the volume ready at the staging path. Idempotent.

        Raises:
            errors.InvalidRequestError: no device can be used so: several writers of one filesystem, an unknown
                filesystem, options that are none.
            errors.VolumeNotFoundError: there is no such volume.
            errors.VolumeExistsError: it is staged already, for another use, or the path is taken.
            errors.VolumeInUseError: another node has it, or it is staged at another path.
            errors.NotReadyError: it holds something that cannot be mounted as asked; it is untouched.
            errors.BackendUnavailableError: it cannot be attached or mounted now.
        """
        attachment = check(request)
        try:
            self._repair(request.volume_id, request.staging)
            with targets.directory(request.staging) as target:
                device = self._backend.attach(attachment)
                self._steps("stage.attached")
                if request.capability.access_type is model.AccessType.MOUNT:
                    self._mount(request, device, target, read_only=attachment.read_only)
                elif not attachment.read_only:
                    self._forget_unfinished(request.volume_id)
        except OSError as error:
            raise errors.BackendUnavailableError(
                f"volume {request.volume_id} cannot be staged at {request.staging}: {error.strerror}",
                remedy="the node's kernel log says why; the driver must be privileged",
            ) from error

    def unstage(self, volume_id: model.VolumeId, staging: Path) -> None:
        """Take the volume from the staging path, and its device from the node. Idempotent.

        Raises:
            errors.InvalidRequestError: the staging path is no directory.
            errors.VolumeInUseError: it is still published, or a process of the node works in it.
        """
        try:
            with targets.parent(staging) as parent_fd:
                self._refuse_in_use(volume_id, mountinfo.path_of(parent_fd) / staging.name)
                _unmount(parent_fd, staging)
        except FileNotFoundError:
            _log.debug("nothing is staged", path=str(staging))
            # Its path may be gone, and a Pod still have the device.
            self._refuse_in_use(volume_id, staging)
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise errors.VolumeInUseError(
                    f"volume {volume_id} cannot be unmounted from {staging}: a process of the node works in it",
                    remedy="end that process",
                ) from error
            raise errors.BackendUnavailableError(
                f"volume {volume_id} cannot be unstaged from {staging}: {error.strerror}"
            ) from error
        self._steps("unstage.unmounted")
        self._backend.detach(volume_id)

    def _repair(self, volume_id: model.VolumeId, staging: Path) -> None:
        """Take away a device that is there and does not work, so that it is attached anew."""
        if self._backend.device(volume_id) is None:
            return
        condition = self._backend.condition(volume_id)
        if condition.abnormal:
            _log.warning("attaching a broken volume anew", volume=str(volume_id), condition=condition.message)
            self.unstage(volume_id, staging)

    def _forget_unfinished(self, volume_id: model.VolumeId) -> None:
        """Before a Pod can write to the device: from now on, what is there is its data, not the remains of a mkfs."""
        if self._backend.formatted(volume_id) is base.Formatted.BEGUN:
            self._backend.record_format(volume_id, base.Formatted.NEVER)

    def _mount(self, request: requests.StageRequest, device: Path, target: targets.Target, *, read_only: bool) -> None:
        existing = target.mount()
        if existing is not None:
            _check_existing(request, existing, device, read_only=read_only)
            fs_type = existing.fs_type
        else:
            _refuse_second_stage(request.volume_id, devices.mounts_of(device))
            fs_type = self._formatter.prepare(
                request.volume_id,
                device,
                fs_type=request.capability.fs_type,
                options=request.context.get(_MKFS_OPTIONS, ""),
                read_only=read_only,
            )
            options = filesystems.mount_options(
                fs_type,
                request.capability.mount_flags,
                read_only=read_only,
                writable_device=devices.is_writable(device),
            )
            place = f"/proc/self/fd/{target.fd}"
            linux.mount(str(device), place, options.flags, fs_type=fs_type, data=options.data)
            self._steps("stage.mounted")
        self._fill(device, fs_type)

    def _fill(self, device: Path, fs_type: str) -> None:
        """Let the filesystem of a volume that was restored into a larger one have all of it."""
        mount = devices.mounts_of(device)[0]
        if not mount.read_only and filesystems.needs_growth(device, fs_type):
            filesystems.grow(device, Path(mount.mount_point), fs_type, self._runner)
            self._steps("stage.grown")

    def _refuse_in_use(self, volume_id: model.VolumeId, staging: Path) -> None:
        device = self._backend.device(volume_id)
        if device is None:
            return
        for mount in [*devices.mounts_of(device), *devices.bindings_of(device)]:
            if mount.mount_point != str(staging):
                raise errors.VolumeInUseError(
                    f"volume {volume_id} is mounted at {mount.mount_point} still",
                    remedy="unpublish it there first: end the Pod that uses it",
                )


def check(request: requests.StageRequest) -> base.Attachment:
    """What has to be attached for the request, which could be served by some device.

    Raises:
        errors.InvalidRequestError: no device could.
    """
    capability = request.capability
    mode = capability.access_mode
    if capability.access_type is model.AccessType.MOUNT:
        if mode in _SHARED_MODES:
            raise errors.InvalidRequestError(
                f"a filesystem on a block device cannot be {mode.kubernetes_name}: two nodes would destroy it",
                remedy="use ReadWriteOnce, or volumeMode: Block, or a backend of directories",
            )
        chosen = filesystems.check_type(capability.fs_type)
        mkfs_options.parse(request.context.get(_MKFS_OPTIONS, ""), chosen)
        filesystems.mount_options(chosen, capability.mount_flags, read_only=False, writable_device=True)
    return base.Attachment(
        volume_id=request.volume_id,
        context=dict(request.context),
        publish_context=dict(request.publish_context),
        read_only=mode in READ_ONLY_MODES,
        shared=mode in _SHARED_MODES,
        secrets=dict(request.secrets),
    )


def _unmount(parent_fd: int, staging: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.close(targets.open_directory(parent_fd, staging))
        mounts.unmount_all(f"/proc/self/fd/{parent_fd}/{staging.name}")


def _check_existing(
    request: requests.StageRequest, existing: mountinfo.Mount, device: Path, *, read_only: bool
) -> None:
    if existing.device != devices.number(device):
        raise errors.VolumeExistsError(
            f"something else than volume {request.volume_id} is mounted at {request.staging}", remedy="unmount it"
        )
    given = {flag for entry in request.capability.mount_flags for flag in entry.split(",")}
    same_access = existing.read_only == (read_only or "ro" in given)
    if not same_access or request.capability.fs_type not in ("", existing.fs_type):
        raise errors.VolumeExistsError(
            f"volume {request.volume_id} is staged at {request.staging} already, "
            f"as {'read-only' if existing.read_only else 'writable'} {existing.fs_type}",
            remedy="unstage it first",
        )


def _refuse_second_stage(volume_id: model.VolumeId, others: Sequence[mountinfo.Mount]) -> None:
    for other in others:
        raise errors.VolumeInUseError(
            f"volume {volume_id} is mounted at {other.mount_point} already", remedy="unstage it there first"
        )
