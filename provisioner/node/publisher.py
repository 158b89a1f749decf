"""Gives volumes to Pods: a bind mount of the volume's directory at the target path that the kubelet names.

The mounts themselves are the only state (CSI "NodePublishVolume"): what mountinfo shows is published, whoever did
it, so that a restart changes nothing. All work is done on open directories; a path that is swapped for a symlink in
the meantime cannot lead a mount elsewhere.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from provisioner import errors, linux, model
from provisioner.backends import base
from provisioner.node import mountinfo, mounts, requests, targets

_READ_ONLY_MODES = frozenset({model.AccessMode.SINGLE_NODE_READER_ONLY, model.AccessMode.MULTI_NODE_READER_ONLY})


class Publisher:
    """Publishes one node's volumes. Calls for one volume must not overlap; `node.service` sees to that.

    `steps` is told each step that was reached, so that a test can stop the process there; `can_clone` says whether
    the kernel can prepare a mount before it is seen.
    """

    def __init__(
        self,
        backend: base.NodeBackend,
        *,
        steps: Callable[[str], None] = lambda _step: None,
        can_clone: Callable[[], bool] = linux.can_clone_mounts,
    ) -> None:
        self._backend = backend
        self._steps = steps
        self._can_clone = can_clone

    def publish(self, request: requests.PublishRequest) -> None:
        """Make the volume appear at the target path. Idempotent.

        Raises:
            errors.InvalidRequestError: an unknown mount option, a block volume, or a target that is no directory.
            errors.VolumeNotFoundError: the volume is not on this node.
            errors.VolumeExistsError: something else, or the same with other options, is mounted at the target.
            errors.VolumeInUseError: a single-writer volume is published at another target.
            errors.BackendUnavailableError: the volume cannot be reached now.
        """
        capability = request.capability
        if capability.access_type is model.AccessType.BLOCK:
            raise errors.InvalidRequestError(
                "a directory cannot be published as a block device", remedy="write volumeMode: Filesystem"
            )
        options = mounts.parse_options(
            capability.mount_flags,
            read_only=request.read_only or capability.access_mode in _READ_ONLY_MODES,
        )
        try:
            with self._source(request.volume_id) as source, targets.directory(request.target) as target:
                self._publish(request, source, target, options)
        except OSError as error:
            raise errors.BackendUnavailableError(
                f"volume {request.volume_id} cannot be mounted at {request.target}: {error.strerror}",
                remedy="run the driver privileged, with the kubelet's directory mounted at its own path",
            ) from error

    def unpublish(self, volume_id: model.VolumeId, target: Path) -> None:
        """Unmount the volume from the target path and remove the target, if empty. Missing is not an error.

        The volume itself is not looked for: a Pod must be able to leave a node whose disk is gone.

        Raises:
            errors.InvalidRequestError: the target is no directory.
            errors.VolumeInUseError: a process of the node, outside the Pod's containers, still works in the volume, or
                something is mounted in it.
        """
        try:
            with targets.parent(target) as parent_fd:
                place = f"/proc/self/fd/{parent_fd}/{target.name}"
                with contextlib.suppress(FileNotFoundError):
                    os.close(targets.open_directory(parent_fd, target))
                    mounts.unmount_all(place)
                    self._steps("unpublish.unmounted")
                    os.rmdir(target.name, dir_fd=parent_fd)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _unpublish_error(error, volume_id, target) from error

    def usage(self, volume_id: model.VolumeId, volume_path: Path) -> model.Usage:
        """How full the volume is that is published at the path.

        Raises:
            errors.VolumeNotFoundError: the volume does not exist, or is not published there.
        """
        with self._source(volume_id) as source:
            try:
                shown = volume_path.stat()
            except OSError:
                shown = None
            if shown is None or not os.path.samestat(shown, os.fstat(source)):
                raise errors.VolumeNotFoundError(f"volume {volume_id} is not published at {volume_path}")
        return self._backend.usage(volume_id)

    def _publish(
        self, request: requests.PublishRequest, source: int, target: targets.Target, options: frozenset[str]
    ) -> None:
        wanted = mounts.effective_options(mountinfo.mount_of(source).options, options)
        existing = target.mount()
        if existing is not None:
            self._settle_existing(request, source, target, existing, wanted)
            return
        if request.capability.access_mode is model.AccessMode.SINGLE_NODE_SINGLE_WRITER:
            _refuse_second_target(request, source)
        self._steps("publish.prepared")
        if self._can_clone():
            mounts.bind(source, target.fd, options)
        else:
            mounts.bind_in_two_steps(source, target.fd, options)
        self._steps("publish.mounted")
        self._confirm(request, source, target)

    @contextlib.contextmanager
    def _source(self, volume_id: model.VolumeId) -> Iterator[int]:
        path = self._backend.locate(volume_id)
        try:
            fd = linux.openat2(None, str(path), os.O_PATH | os.O_DIRECTORY, resolve=linux.RESOLVE_NO_SYMLINKS)
        except OSError as error:
            raise errors.BackendUnavailableError(
                f"the directory of volume {volume_id} cannot be opened: {error.strerror}",
                remedy="look at the pool: it must hold directories only, no symlinks",
            ) from error
        try:
            yield fd
        finally:
            os.close(fd)

    def _settle_existing(
        self,
        request: requests.PublishRequest,
        source: int,
        target: targets.Target,
        existing: mountinfo.Mount,
        wanted: frozenset[str],
    ) -> None:
        if not os.path.samestat(os.fstat(source), os.fstat(target.fd)):
            raise errors.VolumeExistsError(
                f"something else than volume {request.volume_id} is mounted at {request.target}",
                remedy="unmount it",
            )
        shown = mounts.shown_options(existing.options)
        if shown == wanted:
            return
        if not self._can_clone() and shown < wanted:
            # A kernel that binds in two steps was stopped between them: only take away what may not be done.
            mounts.restrict(str(mountinfo.path_of(target.fd)), source, wanted)
            return
        raise errors.VolumeExistsError(
            f"volume {request.volume_id} is published at {request.target} already, with the options "
            f"{','.join(sorted(shown))} instead of {','.join(sorted(wanted))}",
            remedy="unpublish it first",
        )

    def _confirm(self, request: requests.PublishRequest, source: int, target: targets.Target) -> None:
        """Take the mount back where the volume was deleted while it was being mounted."""
        try:
            with self._source(request.volume_id) as again:
                if os.path.samestat(os.fstat(source), os.fstat(again)):
                    return
            raise errors.VolumeNotFoundError(f"volume {request.volume_id} was deleted while it was published")
        except errors.ProvisionerError:
            mounts.unmount_all(target.place)
            raise


def _refuse_second_target(request: requests.PublishRequest, source: int) -> None:
    for other in mountinfo.mounts_of(source):
        raise errors.VolumeInUseError(
            f"volume {request.volume_id} is ReadWriteOncePod and published at {other.mount_point} already",
            remedy="wait until the Pod that uses it has gone, or ask for ReadWriteOnce",
        )


def _unpublish_error(error: OSError, volume_id: model.VolumeId, target: Path) -> errors.ProvisionerError:
    if error.errno == errno.EBUSY:
        inner = mountinfo.first_below(target)
        if inner is not None:
            return errors.VolumeInUseError(
                f"volume {volume_id} cannot be unmounted from {target}: something is mounted in it, at {inner}",
                remedy="unmount that; a privileged Pod whose volumeMount propagates both ways may have left it",
            )
        return errors.VolumeInUseError(
            f"volume {volume_id} cannot be unmounted from {target}: a process still works in it",
            remedy="end that process",
        )
    if error.errno == errno.ENOTEMPTY:
        return errors.BackendUnavailableError(
            f"{target} was unmounted and holds files that do not belong to volume {volume_id}",
            remedy="move them away: they are never removed automatically",
        )
    return errors.BackendUnavailableError(f"volume {volume_id} cannot be unpublished from {target}: {error.strerror}")
