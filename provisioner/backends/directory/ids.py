"""The names on disk, made and read in one place: volumes, volumes being built, volumes in the trash.

A volume's id is `d1-<pool>-<name>`: a version, the first half of the pool's UUID, and a hash of the name that the
caller chose. So the same name is always the same volume, no path can be in an id, and an id tells which pool it is of.
"""

import dataclasses
import datetime
import hashlib
import re
import secrets
from typing import Self

_POOL_DIGITS = 16
_ID = rf"d1-(?P<pool>[0-9a-f]{{{_POOL_DIGITS}}})-(?P<name>[0-9a-f]{{32}})"
_VOLUME = re.compile(_ID, re.ASCII)
_STAGING = re.compile(rf"(?P<id>{_ID})\.[0-9a-f]{{16}}", re.ASCII)
_TRASH = re.compile(rf"(?P<time>\d{{8}}T\d{{6}}\.\d{{6}}Z)-(?P<id>{_ID})", re.ASCII)
_TIME = "%Y%m%dT%H%M%S.%fZ"


@dataclasses.dataclass(frozen=True, slots=True)
class DirectoryId:
    """A volume id of this backend.

    Attributes:
        pool: the pool's short name, as `pool_digits` makes it.
    """

    pool: str
    name: str

    @classmethod
    def of(cls, pool: str, request_name: str) -> Self:
        """The id of the volume that the caller calls `request_name`, in this pool."""
        return cls(pool, hashlib.sha256(request_name.encode("utf-8", "surrogatepass")).hexdigest()[:32])

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read an id; None where it is not one of this backend."""
        match = _VOLUME.fullmatch(text)
        return cls(match["pool"], match["name"]) if match else None

    def __str__(self) -> str:
        return f"d1-{self.pool}-{self.name}"


def pool_digits(pool_uuid: str) -> str:
    """The part of a pool's UUID that its volumes' ids carry."""
    return pool_uuid.replace("-", "")[:_POOL_DIGITS]


def new_staging_name(volume: DirectoryId) -> str:
    """A name, used once, under which the volume is built."""
    return f"{volume}.{secrets.token_hex(8)}"


def staged_volume(name: str) -> DirectoryId | None:
    """Which volume is built under this name."""
    match = _STAGING.fullmatch(name)
    return DirectoryId(match["pool"], match["name"]) if match else None


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class TrashName:
    """The name of a deleted volume: when it was deleted, and which it was. Sorted oldest first."""

    deleted: datetime.datetime
    volume: str

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read a name in the trash; None where it is a stranger's."""
        match = _TRASH.fullmatch(text)
        if match is None:
            return None
        try:
            deleted = datetime.datetime.strptime(match["time"], _TIME).replace(tzinfo=datetime.UTC)
        except ValueError:
            return None
        return cls(deleted, match["id"])

    def __str__(self) -> str:
        return f"{self.deleted.strftime(_TIME)}-{self.volume}"
