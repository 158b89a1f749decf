"""What is mounted where, as the kernel tells it in /proc/<pid>/mountinfo (proc(5)).

`os.path.ismount` compares device numbers, so it does not see a bind mount within one filesystem, which is what every
published volume is. A mount is found by the directory it shows instead: filesystem and path within the filesystem.
"""

import dataclasses
import errno
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

SELF = Path("/proc/self/mountinfo")
HOST = Path("/proc/1/mountinfo")
"""The init process's view; in a container with the host's process namespace, the host's own."""

_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclasses.dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo.

    Attributes:
        device: "major:minor" of the filesystem; with `root` it tells which directory is shown.
        root: the directory of the filesystem that is shown.
        mount_point: where it is shown.
        options: of this mount (ro, nosuid, …), not of the filesystem.
    """

    id: int
    parent: int
    device: str
    root: str
    mount_point: str
    options: frozenset[str]
    fs_type: str

    @property
    def read_only(self) -> bool:
        """Whether nothing can be written through this mount."""
        return "ro" in self.options

    def shows(self, device: str, root: str) -> bool:
        """Whether this mount shows the directory `root` of the filesystem, or one below it."""
        return self.device == device and _is_within(self.root, root)


def parse(line: str) -> Mount:
    """Read one line of mountinfo."""
    head, _, tail = line.partition(" - ")
    number, parent, device, root, mount_point, options, *_ = head.split(" ")
    return Mount(
        id=int(number),
        parent=int(parent),
        device=device,
        root=_unescape(root),
        mount_point=_unescape(mount_point),
        options=frozenset(options.split(",")),
        fs_type=_unescape(tail.split(" ")[0]),
    )


def mounts(*, containing: str = "", table: Path = SELF) -> Iterator[Mount]:
    """The mounts of a mount namespace, in the order of mounting.

    Args:
        containing: only lines that hold this text, which mountinfo must not escape (no blanks, no backslash):
            with thousands of mounts, parsing is what costs.
        table: whose mountinfo.
    """
    # Neither read_text nor splitlines: whoever owns a volume may name a directory with what they take for a line's end.
    for line in table.read_bytes().decode("utf-8", "surrogateescape").split("\n"):
        if line and containing in line:
            yield parse(line)


def mount_of(fd: int) -> Mount:
    """The mount through which the file was opened.

    Raises:
        OSError: it was unmounted meanwhile (ESTALE).
    """
    number = mount_id(fd)
    for candidate in mounts(containing=f"{number} "):
        if candidate.id == number:
            return candidate
    raise OSError(errno.ESTALE, f"mount {number} is gone")


def mount_id(fd: int) -> int:
    """The number of the mount through which the file was opened."""
    for line in Path(f"/proc/self/fdinfo/{fd}").read_text("ascii").splitlines():
        if line.startswith("mnt_id:"):
            return int(line.removeprefix("mnt_id:"))
    raise OSError(errno.ENOSYS, "the kernel tells no mnt_id")


def mounts_at(path: Path) -> Sequence[Mount]:
    """What is mounted exactly at `path`, the uppermost last; the path is taken without following symlinks."""
    return [candidate for candidate in mounts() if candidate.mount_point == str(path)]


def first_below(path: Path) -> str | None:
    """Where something is mounted below `path`, itself left out, if anywhere."""
    below = f"{path}/"
    return next((candidate.mount_point for candidate in mounts() if candidate.mount_point.startswith(below)), None)


def mounts_of(fd: int) -> Sequence[Mount]:
    """Every other mount, in this namespace, of the open directory itself (not of those below it)."""
    own = mount_of(fd)
    root = filesystem_path(fd, own)
    return [
        candidate
        for candidate in mounts(containing=own.device)
        if candidate.device == own.device and candidate.root == root and candidate.id != own.id
    ]


def filesystem_path(fd: int, through: Mount) -> str:
    """The open directory's path within its filesystem, given the mount through which it was opened."""
    return str(Path(through.root) / path_of(fd).relative_to(through.mount_point))


def path_of(fd: int) -> Path:
    """The path of the open directory in this namespace, free of symlinks."""
    return Path(f"/proc/self/fd/{fd}").readlink()


def _is_within(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text) if "\\" in text else text
