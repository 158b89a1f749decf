"""What is on a device, so that nothing is ever made over somebody's data.

libblkid knows filesystems, partition tables, RAID members, LUKS and LVM by their marks. What has no mark, a database
on a raw device, is known by its first or last bytes not being zero. An unreadable device is an error, never empty.
"""

import dataclasses
import enum
import os
from pathlib import Path

from provisioner import errors
from provisioner.backends import commands

_EDGE = 1 << 20
"""Bytes at either end of a device that are looked at."""

_NOTHING_FOUND = 2
_SEVERAL_FOUND = 8


class Kind(enum.Enum):
    """What was found."""

    EMPTY = "nothing"
    UNKNOWN = "data that is no filesystem"
    FILESYSTEM = "a filesystem"
    OTHER = "something that is no filesystem"


@dataclasses.dataclass(frozen=True, slots=True)
class Content:
    """What a device holds.

    Attributes:
        name: of the filesystem, or of what else it is; empty where that is not known.
    """

    kind: Kind
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind.value} ({self.name})" if self.name else self.kind.value


def look(device: Path, runner: commands.Runner) -> Content:
    """What the device holds, from the device itself.

    Raises:
        errors.BackendUnavailableError: it cannot be read.
    """
    blank = _is_blank(device)
    found = runner.run(["blkid", "-p", "-o", "export", device], accept=(0, _NOTHING_FOUND, _SEVERAL_FOUND))
    if found.code == _SEVERAL_FOUND:
        return Content(Kind.OTHER, "marks of several kinds")
    content = parse(found.output)
    if content.kind is Kind.EMPTY and not blank:
        return Content(Kind.UNKNOWN)
    return content


def parse(output: str) -> Content:
    """Read what `blkid -p -o export` printed; nothing where it found nothing."""
    pairs = dict(line.partition("=")[::2] for line in output.splitlines() if "=" in line)
    name = pairs.get("TYPE", "")
    if name and pairs.get("USAGE") == "filesystem":
        return Content(Kind.FILESYSTEM, name)
    if name or "PTTYPE" in pairs:
        return Content(Kind.OTHER, name or f"{pairs['PTTYPE']} partition table")
    return Content(Kind.EMPTY)


def _is_blank(device: Path) -> bool:
    try:
        fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.lseek(fd, 0, os.SEEK_END)
            edges = (os.pread(fd, _EDGE, 0), os.pread(fd, _EDGE, max(0, size - _EDGE)))
        finally:
            os.close(fd)
    except OSError as error:
        raise errors.BackendUnavailableError(
            f"{device} cannot be read: {error.strerror}", remedy="look at the storage behind it"
        ) from error
    return not any(edge.strip(b"\0") for edge in edges)
