"""Filesystems on devices: made, checked, mounted and grown. ext4 and XFS, which both grow while they are used."""

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from provisioner import errors, linux
from provisioner.backends import commands
from provisioner.node import mkfs_options, superblocks

DEFAULT = "ext4"

# A new image reads as zeros and holds nothing that could be discarded. What ext4 leaves for later is done when mounted.
_MAKERS: Mapping[str, tuple[str, ...]] = {
    "ext4": ("mkfs.ext4", "-q", "-m0", "-Enodiscard,lazy_itable_init=1,lazy_journal_init=1"),
    "xfs": ("mkfs.xfs", "-q", "-K"),
}
# XFS refuses a second filesystem of the same UUID on a node, which is what a clone beside its source is.
_ALWAYS: Mapping[str, tuple[str, ...]] = {"ext4": ("discard",), "xfs": ("discard", "nouuid")}
# A device that takes no writes cannot have its journal replayed: what a reader then sees is as old as the last commit.
_ON_READ_ONLY_DEVICE: Mapping[str, str] = {"ext4": "noload", "xfs": "norecovery"}
_FLAGS: Mapping[str, int] = {
    "ro": linux.MS_RDONLY,
    "nosuid": linux.MS_NOSUID,
    "nodev": linux.MS_NODEV,
    "noexec": linux.MS_NOEXEC,
    "sync": linux.MS_SYNCHRONOUS,
    "dirsync": linux.MS_DIRSYNC,
    "noatime": linux.MS_NOATIME,
    "nodiratime": linux.MS_NODIRATIME,
    "relatime": linux.MS_RELATIME,
    "strictatime": linux.MS_STRICTATIME,
    "lazytime": linux.MS_LAZYTIME,
}
_NEUTRAL = frozenset({"defaults", "rw", "_netdev"})
_OPTION = re.compile(r"[A-Za-z0-9_]+(=[A-Za-z0-9_.:/-]*)?", re.ASCII)
_CHECKED = (0, 1)
_MAKING_SECONDS = 300
_CHECKING_SECONDS = 3600


@dataclasses.dataclass(frozen=True, slots=True)
class MountOptions:
    """What mount(2) is told.

    Attributes:
        flags: MS_*.
        data: the filesystem's own options; may be sensitive.
    """

    flags: int
    data: str = dataclasses.field(repr=False)


def check_type(fs_type: str) -> str:
    """The filesystem to make for one that was asked for; an empty one leaves it to us.

    Raises:
        errors.InvalidRequestError: it is none that can be made.
    """
    chosen = fs_type or DEFAULT
    if chosen not in _MAKERS:
        raise errors.InvalidRequestError(
            f"the filesystem {chosen[:32]!a} cannot be made",
            remedy=f"write one of {', '.join(sorted(_MAKERS))} as csi.storage.k8s.io/fstype",
        )
    return chosen


def mount_options(fs_type: str, given: Sequence[str], *, read_only: bool, writable_device: bool) -> MountOptions:
    """How to mount the filesystem, with the options of a class or a volume.

    Raises:
        errors.InvalidRequestError: one is not of the form of an option.
    """
    flags = linux.MS_RDONLY if read_only or not writable_device else 0
    data = list(_ALWAYS[fs_type]) if writable_device else [o for o in _ALWAYS[fs_type] if o != "discard"]
    if not writable_device:
        data.append(_ON_READ_ONLY_DEVICE[fs_type])
    for option in (part for entry in given for part in entry.split(",") if part):
        if _OPTION.fullmatch(option) is None:
            raise errors.InvalidRequestError(
                f"the mount option {option.partition('=')[0][:32]!a} is not of the form of one",
                remedy="correct mountOptions of the class",
            )
        if option in _FLAGS:
            flags |= _FLAGS[option]
        elif option == "nodiscard":
            data = [kept for kept in data if kept != "discard"]
        elif option not in _NEUTRAL and option not in data:
            data.append(option)
    return MountOptions(flags, ",".join(data))


def make(device: Path, fs_type: str, options: str, *, again: bool, runner: commands.Runner) -> None:
    """Make a filesystem on a device that holds nothing.

    Args:
        options: of the class, for mkfs.
        again: an earlier attempt was cut short; what it left behind may be overwritten.

    Raises:
        errors.InvalidRequestError: an option cannot be given, or mkfs does not take it.
        errors.BackendUnavailableError: it could not be made.
    """
    words = [*_MAKERS[fs_type], *(("-f",) if again and fs_type == "xfs" else ())]
    given = mkfs_options.parse(options, fs_type)
    try:
        runner.run([*words, *given, device], timeout=_MAKING_SECONDS)
    except commands.CommandFailedError as error:
        if given:
            raise errors.InvalidRequestError(error.message, remedy="look at mkfsOptions of the class") from error
        raise


def check(device: Path, runner: commands.Runner) -> None:
    """Let ext4 repair what it can without asking.

    Mounting replays the journal; this is only for one that has met an error since.

    Raises:
        errors.NotReadyError: it cannot be repaired so.
    """
    _check(device, runner)


def _check(device: Path, runner: commands.Runner, *more: str) -> None:
    try:
        runner.run(["e2fsck", "-p", *more, str(device)], timeout=_CHECKING_SECONDS, accept=_CHECKED)
    except commands.CommandFailedError as error:
        raise errors.NotReadyError(
            f"the filesystem on {device} is damaged: {error.message}",
            remedy="repair it by hand with e2fsck, or restore a snapshot; nothing was changed that e2fsck -p does not",
        ) from error


def grow_unmounted(device: Path, runner: commands.Runner) -> None:
    """Let an ext4 that is not mounted fill its device; it is checked in full first, which takes its time.

    Raises:
        errors.NotReadyError: it is damaged beyond what can be repaired without asking.
    """
    _check(device, runner, "-f")
    runner.run(["resize2fs", str(device)], timeout=_CHECKING_SECONDS)


def needs_growth(device: Path, fs_type: str) -> bool:
    """Whether the device has room that the filesystem does not use.

    Raises:
        OSError: the device cannot be read.
    """
    return superblocks.read(device, fs_type).size < size(device)


def grow(device: Path, mount_point: Path, fs_type: str, runner: commands.Runner) -> None:
    """Let the mounted filesystem fill its device. Idempotent.

    Raises:
        errors.VolumeInUseError: this process may not do that while it is mounted.
    """
    if fs_type == "ext4" and not linux.may_resize_mounted_ext4():
        raise errors.VolumeInUseError(
            f"the ext4 at {mount_point} cannot grow while it is mounted: the driver lacks CAP_SYS_RESOURCE",
            remedy="run the driver privileged; or end the Pod: the volume grows when it is staged again",
        )
    words = ("xfs_growfs", "-d", str(mount_point)) if fs_type == "xfs" else ("resize2fs", str(device))
    runner.run(words, timeout=_MAKING_SECONDS)


def size(device: Path) -> int:
    """The size of the device in bytes.

    Raises:
        OSError: it cannot be opened.
    """
    fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.lseek(fd, 0, os.SEEK_END)
    finally:
        os.close(fd)
