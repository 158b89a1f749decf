"""Loop devices: block devices whose bytes are a file's. Found by what the kernel says of them, never from memory."""

import errno
import os
from pathlib import Path

from provisioner import errors
from provisioner.backends import commands

_SYSTEM = Path("/sys/block")
_GONE = " (deleted)"


def find(backing: Path, *, system: Path = _SYSTEM) -> Path | None:
    """The loop device over this file, if there is one; also where the file is gone or answers no more."""
    wanted = str(backing)
    for entry in sorted(system.glob("loop*/loop/backing_file")):
        try:
            shown = entry.read_text(encoding="utf-8", errors="surrogateescape").rstrip("\n")
        except OSError:
            continue
        if shown.removesuffix(_GONE) == wanted:
            return Path("/dev", entry.parent.parent.name)
    return None


def attach(backing: Path, runner: commands.Runner, *, read_only: bool) -> Path:
    """The loop device over this file, made where there is none. Idempotent."""
    found = find(backing)
    if found is not None:
        return found
    words = ["losetup", "--find", "--show", *(["--read-only"] if read_only else []), str(backing)]
    return Path(runner.run(words).output.strip())


def detach(device: Path, runner: commands.Runner) -> None:
    """Take the loop device away, what it holds written out.

    Raises:
        errors.VolumeInUseError: a filesystem on it is mounted somewhere.
    """
    refuse_claimed(device)
    runner.run(["losetup", "--detach", str(device)])


def detach_later(device: Path, runner: commands.Runner) -> None:
    """Take a loop device away whose file answers no more, when its last user has gone."""
    runner.run(["losetup", "--detach", str(device)])


def take_size(device: Path, runner: commands.Runner) -> None:
    """Let the loop device have its file's present size."""
    runner.run(["losetup", "--set-capacity", str(device)])


def refuse_claimed(device: Path) -> None:
    """Refuse where the kernel itself uses the device: a mount in any namespace, a RAID, a mapping.

    Raises:
        errors.VolumeInUseError: it does.
    """
    try:
        os.close(os.open(device, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise errors.VolumeInUseError(
                f"{device} is still used, maybe by a filesystem that is mounted in a container",
                remedy="end the Pod that uses it",
            ) from error
        if error.errno not in {errno.ENXIO, errno.ENOENT, errno.EIO, errno.ENOTCONN}:
            raise
