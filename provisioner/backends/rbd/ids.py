"""The ids of volumes and snapshots, and the names of images, made and read in one place.

    r1.<cluster>.<pool>[.<namespace>].<image>                the volume that is this image
    s1.<cluster>.<pool>[.<namespace>].<image id>.<snapshot>  the snapshot of the image with this internal id

The cluster is a hash of the operator's name for it, the pool its number, for a pool can be renamed. A snapshot names
its image by the id that Ceph gave it, for that stays when the image is renamed or in the trash. An image is called as
its volume is by the caller, behind the instance's prefix, where this is a name that is safe everywhere; else by a hash.
"""

import dataclasses
import hashlib
import re
from typing import Self

NAMESPACE_LIMIT = 32
_IMAGE_LIMIT = 64
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*", re.ASCII)
# A pool's number has one spelling: two ids of one volume would be locked apart.
_PLACE = (
    r"(?P<cluster>[0-9a-f]{8})\.(?P<pool>[1-9a-f][0-9a-f]{0,7})(?:\.(?P<namespace>[A-Za-z0-9][A-Za-z0-9_-]{0,31}))?"
)
_VOLUME = re.compile(rf"r1\.{_PLACE}\.(?P<image>[A-Za-z0-9][A-Za-z0-9_-]{{0,63}})", re.ASCII)
_SNAPSHOT = re.compile(rf"s1\.{_PLACE}\.(?P<image_id>[0-9a-f]{{1,32}})\.(?P<snapshot>[0-9a-f]{{24}})", re.ASCII)


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class PlaceId:
    """Where images are: one namespace of one pool of one cluster.

    Attributes:
        cluster: `cluster_digits` of the operator's name for the cluster.
        pool: the pool's number in its cluster.
        namespace: empty for the pool's default one.
    """

    cluster: str
    pool: int
    namespace: str = ""

    def __str__(self) -> str:
        return ".".join(filter(None, (self.cluster, f"{self.pool:x}", self.namespace)))


@dataclasses.dataclass(frozen=True, slots=True)
class RbdVolumeId:
    """A volume id of this backend."""

    place: PlaceId
    image: str

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read an id; None where it is not one of this backend."""
        match = _VOLUME.fullmatch(text)
        return cls(_place(match), match["image"]) if match else None

    def __str__(self) -> str:
        return f"r1.{self.place}.{self.image}"


@dataclasses.dataclass(frozen=True, slots=True)
class RbdSnapshotId:
    """A snapshot id of this backend.

    Attributes:
        image_id: Ceph's own id of the image, not its name.
        snapshot: `snapshot_digits` of the caller's name for the snapshot.
    """

    place: PlaceId
    image_id: str
    snapshot: str

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read an id; None where it is not one of this backend."""
        match = _SNAPSHOT.fullmatch(text)
        return cls(_place(match), match["image_id"], match["snapshot"]) if match else None

    def __str__(self) -> str:
        return f"s1.{self.place}.{self.image_id}.{self.snapshot}"


def cluster_digits(cluster: str) -> str:
    """The part of an id that stands for the operator's name of a cluster."""
    return _digits(cluster, 8)


def snapshot_digits(name: str) -> str:
    """The part of an id that stands for the caller's name of a snapshot."""
    return _digits(name, 24)


def image_name(instance: str, name: str) -> str:
    """The image of the volume that the caller calls `name`, in the Kubernetes cluster `instance`.

    Two names never make one image: a hash begins with `x-`, which no name is kept with.
    """
    kept = f"{instance}-{name}"
    if _SAFE_NAME.fullmatch(name) and not name.startswith("x-") and len(kept) <= _IMAGE_LIMIT:
        return kept
    return f"{instance}-x-{_digits(name, 40)}"


def is_image_of(instance: str, image: str) -> bool:
    """Whether the image's name is one that `image_name` makes for this instance, and an id can hold."""
    return image.startswith(f"{instance}-") and len(image) <= _IMAGE_LIMIT and _SAFE_NAME.fullmatch(image) is not None


def _digits(text: str, count: int) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:count]


def _place(match: re.Match[str]) -> PlaceId:
    return PlaceId(match["cluster"], int(match["pool"], 16), match["namespace"] or "")
