"""The pool's marker `.pool.json`: that this directory is a pool, which one, and on which filesystem it was made.

An unmounted disk leaves a directory without the marker; another disk brings another marker, or a copied one on a
filesystem that is not the one it names. Each is refused, so that no volume ever appears empty or on the wrong disk.
"""

import datetime
import os
import uuid

import msgspec

from provisioner import errors, linux, model
from provisioner.backends.directory import files

NAME = ".pool.json"
SCHEMA = 1
PLACES = ("staging", "volumes", "trash")
"""The pool's directories, in the order in which a volume goes through them in its life."""
LOCK = ".lock"

_LIMIT = 64 * model.KIB
_FOREIGN = frozenset({"lost+found"})
# Filesystems whose statfs number is made from their UUID; XFS makes it from the device number, which may change.
_STABLE_FSID = frozenset({0xEF53, 0x9123683E})


class NoPoolError(errors.BackendUnavailableError):
    """The directory is not a pool: it has no marker."""


class Filesystem(msgspec.Struct, frozen=True):
    """What tells one filesystem from another, across reboots; empty where the kernel tells nothing."""

    uuid: str = ""
    fsid: str = ""

    @classmethod
    def of(cls, fd: int) -> "Filesystem":
        """The filesystem that holds the open directory."""
        stable = linux.filesystem_magic(fd) in _STABLE_FSID
        return cls(uuid=linux.filesystem_uuid(fd), fsid=f"{os.fstatvfs(fd).f_fsid:016x}" if stable else "")

    def differs_from(self, other: "Filesystem") -> bool:
        """Whether the two are surely not the same. A kernel older than the one that made the pool tells less."""
        if self.uuid and other.uuid:
            return self.uuid != other.uuid
        return bool(self.fsid and other.fsid and self.fsid != other.fsid)


class Marker(msgspec.Struct, frozen=True, kw_only=True):
    """The content of the marker.

    Attributes:
        pool: UUID of the pool.
        filesystem: on which it was made; null where an operator has moved the pool and says that it is right so.
        foreign: bytes that others used on the filesystem when the pool was made.
    """

    schema: int
    pool: str
    filesystem: Filesystem | None
    foreign: int
    created: str


def read(root: int, *, name: str, path: str) -> Marker:
    """Read and judge the marker of an open pool.

    Raises:
        NoPoolError: it is missing.
        errors.BackendUnavailableError: it is damaged, newer, or on another filesystem.
    """
    marker = _decode(_content(root, name, path), name, path)
    if marker.filesystem is not None and marker.filesystem.differs_from(Filesystem.of(root)):
        raise errors.BackendUnavailableError(
            f"pool {name}: {path} is on another filesystem than the pool was made on: the disk was replaced or copied",
            remedy=f'mount the right one; if the pool was moved on purpose, set "filesystem" to null in {path}/{NAME}',
        )
    return marker


def _content(root: int, name: str, path: str) -> bytes:
    try:
        return files.read(root, NAME, limit=_LIMIT)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise errors.BackendUnavailableError(
            f"pool {name}: the marker {path}/{NAME} cannot be read: {error.strerror}", remedy="look at the disk"
        ) from error
    empty = all(entry.name in _FOREIGN for entry in files.entries(root))
    raise NoPoolError(
        f"pool {name}: {path} is {'empty' if empty else 'not a pool'}: its filesystem is not mounted there, "
        "or the pool was never made",
        remedy="mount it" + ("; to make a new pool there, start once with --init-pools" if empty else ""),
    )


def _decode(data: bytes, name: str, path: str) -> Marker:
    try:
        marker = msgspec.json.decode(data, type=Marker)
        _check_spelling(marker.pool)
    except (msgspec.DecodeError, ValueError) as error:
        raise errors.BackendUnavailableError(
            f"pool {name}: the marker {path}/{NAME} is damaged: {error}",
            remedy=f"restore it; the volumes' ids in {path}/volumes carry the first digits of the pool's UUID",
        ) from error
    if marker.schema > SCHEMA:
        raise errors.BackendUnavailableError(
            f"pool {name}: {path} has schema {marker.schema}, and this program knows {SCHEMA}",
            remedy="run a newer program",
        )
    return marker


def _check_spelling(pool: str) -> None:
    """Refuse a UUID in another spelling than our own: it would make ids that nobody can read."""
    if str(uuid.UUID(pool)) != pool:
        raise ValueError("the pool's UUID is not in lower case with four hyphens")


def make_pool(root: int, *, name: str, path: str, now: datetime.datetime) -> None:
    """Make a pool in an empty directory; one that is a pool already stays as it is.

    The marker is written last, so that an interrupted call is finished by its repetition.

    Raises:
        errors.BackendUnavailableError: the directory holds something else.
    """
    if files.exists(root, NAME):
        return
    _refuse_foreign(root, name, path)
    os.fchmod(root, 0o700)
    for place in PLACES:
        if not files.exists(root, place):
            os.mkdir(place, 0o700, dir_fd=root)
    os.close(os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=root))
    space = os.fstatvfs(root)
    marker = Marker(
        schema=SCHEMA,
        pool=str(uuid.uuid4()),
        filesystem=Filesystem.of(root),
        foreign=(space.f_blocks - space.f_bfree) * space.f_frsize,
        created=now.isoformat(),
    )
    files.replace(root, NAME, msgspec.json.format(msgspec.json.encode(marker), indent=1) + b"\n")


def _refuse_foreign(root: int, name: str, path: str) -> None:
    left_over = {*PLACES, LOCK, f"{NAME}.new"}
    for entry in files.entries(root):
        if entry.name in _FOREIGN:
            continue
        if entry.name in left_over:
            if entry.name not in PLACES:
                continue
            with files.directory(root, entry.name) as place:
                if not files.entries(place):
                    continue
        raise errors.BackendUnavailableError(
            f"pool {name}: no pool is made in {path}: it holds {entry.name[:64]!a} already",
            remedy="name an empty directory, or one that is a pool",
        )
