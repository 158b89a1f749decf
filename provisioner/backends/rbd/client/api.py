"""The seam towards Ceph: what the backend asks of a cluster, in plain values.

Synchronous: calls block, for at most the client's time-outs, and may come from many threads at once. An image is
named by its name; its metadata, which it keeps when it goes to the trash, by its id. Every error is one of
`client.errors`. After a `TimedOutError` the outcome is unknown: look again, never undo.

Any method may also raise: ClusterUnreachableError, TimedOutError, BlocklistedError, NotPermittedError, ClusterError.
"""

import dataclasses
import datetime
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

DEFAULT_FEATURES = frozenset({"layering", "exclusive-lock", "object-map", "fast-diff", "deep-flatten"})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Where a cluster is, and who we are there.

    Attributes:
        cluster: what the operator calls it (`clusterID`).
        monitors: each `host`, `host:port` or `[v2:…,v1:…]`, as in Ceph's `mon_host`.
        user: without the `client.` in front.
        key: never shown, logged, or passed to another process.
    """

    cluster: str
    monitors: tuple[str, ...]
    user: str
    key: str = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where images are: a pool, and a namespace in it; the empty namespace is the pool's own."""

    pool: str
    namespace: str = ""

    def __str__(self) -> str:
        return f"{self.pool}/{self.namespace}" if self.namespace else self.pool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PoolStats:
    """A pool's room, in bytes, as its users see it: after replication or erasure coding.

    Attributes:
        max_avail: what can still be written.
        quota: the most that may be stored; 0 means unlimited.

    All are 0 where the cluster's manager, which counts, has not counted yet.
    """

    max_avail: int
    used: int
    quota: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How an image's data is kept. Zero and empty mean Ceph's own default.

    Attributes:
        features: by the names of `rbd create --image-feature`.
        data_pool: where the data goes while the metadata stays, for erasure-coded pools.
        order: objects are 2**order bytes.
        stripe_unit: in bytes; goes with `stripe_count`.
    """

    features: frozenset[str] = DEFAULT_FEATURES
    data_pool: str = ""
    order: int = 0
    stripe_unit: int = 0
    stripe_count: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class SnapshotRef:
    """A snapshot of an image, in its own place."""

    place: Place
    image: str
    snapshot: str


@dataclasses.dataclass(frozen=True, slots=True)
class ImageEntry:
    """An image in a listing. It may be one that was only half made."""

    id: str
    name: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecord:
    """What can be told of an image without opening it: three small reads."""

    id: str
    name: str
    size: int
    metadata: Mapping[str, str]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """The snapshot that a clone's unwritten parts are read from.

    Attributes:
        snapshot: where it was trashed, a name that Ceph made up.
        trashed: whether the parent image is in the trash.
    """

    place: Place
    image_id: str
    image: str
    snapshot: str
    trashed: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ImageInfo:
    """All there is to know of an image."""

    id: str
    name: str
    size: int
    layout: Layout
    created: datetime.datetime
    metadata: Mapping[str, str]
    parent: Parent | None


@dataclasses.dataclass(frozen=True, slots=True)
class Watcher:
    """A client that has an image open for writing; those that only read are invisible.

    Attributes:
        address: as the blocklist takes it, `127.0.0.1:0/123456`.
        client: Ceph's number for the client.
    """

    address: str
    client: int
    cookie: int


@dataclasses.dataclass(frozen=True, slots=True)
class LockOwner:
    """The client that holds an image's exclusive lock; `client` is `client.4135`."""

    address: str
    client: str
    cookie: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotInfo:
    """A snapshot of an image.

    Attributes:
        name: where it is trashed, the one it had while it could be used.
        trashed: it was removed while it had children, and goes with the last of them.
    """

    id: int
    name: str
    size: int
    created: datetime.datetime
    trashed: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A clone of a snapshot."""

    place: Place
    image_id: str
    image: str
    trashed: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TrashEntry:
    """An image in the trash.

    Attributes:
        name: the one it had.
        expires: until then it is kept (`trash_remove` without force refuses).
    """

    id: str
    name: str
    deleted: datetime.datetime
    expires: datetime.datetime


class Images(Protocol):
    """The images of one place. Every method raises ImageNotFoundError for an image that is not there."""

    @property
    def place(self) -> Place:
        """Where these images are."""

    def create(
        self, name: str, size: int, *, layout: Layout = Layout(), metadata: Mapping[str, str] | None = None
    ) -> str:
        """Make an image of `size` bytes with this metadata; its id. Killed in between, either may be missing.

        Raises:
            ImageExistsError: the name is taken, by a whole image or by traces of one (see `find`).
            InvalidImageError: no image can be like this.
            PoolNotFoundError: there is no such data pool.
            QuotaExceededError: the pool is full.
        """

    def clone(
        self, parent: SnapshotRef, name: str, *, layout: Layout = Layout(), metadata: Mapping[str, str] | None = None
    ) -> str:
        """Make an image whose first content is a snapshot's (clone version 2: needs no protection); its id.

        Ceph copies the parent's metadata to the child first. When this returns, the child has exactly `metadata`;
        killed in between, it may still have its parent's, whose names are then not its own.

        Raises:
            NoSuchSnapshotError: the parent or its snapshot is not there.
        """

    def list(self) -> Sequence[ImageEntry]:
        """All images, half-made ones too, and none of the trash."""

    def find(self, name: str) -> ImageRecord:
        """The image of this name, without opening it.

        Raises:
            ImageIncompleteError: its creation was cut short: `remove`, then create it anew.
        """

    def inspect(self, name: str) -> ImageInfo:
        """The image of this name in full; opens it, which costs ten times as much as `find`."""

    def exists(self, name: str) -> bool:
        """Whether the listing has it, the word that counts after a deletion; a half-made image does exist."""

    def metadata(self, image_id: str) -> Mapping[str, str]:
        """The image's metadata, as `rbd image-meta list` shows it; also of one in the trash."""

    def set_metadata(self, image_id: str, pairs: Mapping[str, str]) -> None:
        """Add or replace these pairs, all in one step; also of an image in the trash."""

    def remove_metadata(self, image_id: str, keys: Collection[str]) -> None:
        """Remove these keys, all in one step; one that is not there is no error."""

    def resize(self, name: str, size: int) -> None:
        """Grow the image to `size` bytes; nothing happens where it has that size.

        Raises:
            ShrinkRefusedError: it is larger.
            ReadOnlyError: its lock is held by a client that does not do it for us.
        """

    def remove(self, name: str) -> None:
        """Remove the image for good, or the traces of a half-made one.

        Raises:
            ImageBusyError: it is open somewhere.
            ImageHasSnapshotsError: it has snapshots.
            QuotaExceededError: the pool is full, and the image is still there.
        """

    def flatten(self, name: str) -> None:
        """Copy what is still read from the parent; takes as long as that takes. Without a parent, nothing happens."""

    def watchers(self, name: str) -> Sequence[Watcher]:
        """Who has the image open for writing; asking does not make us one."""

    def lock_owner(self, name: str) -> LockOwner | None:
        """Who holds the image's exclusive lock."""

    def break_lock(self, name: str, owner: LockOwner) -> None:
        """Take the exclusive lock from `owner`, dead or alive: Ceph blocklists it first, so that it writes no more.

        No error where nobody holds it.

        Raises:
            ImageBusyError: it is held by somebody else by now.
        """

    def create_snapshot(self, name: str, snapshot: str) -> None:
        """Take a snapshot.

        Raises:
            SnapshotTakenError: the image has one of this name.
        """

    def snapshots(self, name: str) -> Sequence[SnapshotInfo]:
        """The image's snapshots, trashed ones too, oldest first."""

    def remove_snapshot(self, name: str, snapshot: str) -> None:
        """Remove a snapshot; one with children is trashed, and goes with the last of them.

        Raises:
            NoSuchSnapshotError: the image has none of this name.
            SnapshotBusyError: it is protected.
        """

    def children(self, name: str, snapshot: str) -> Sequence[Child]:
        """The clones of this snapshot, wherever they are.

        Raises:
            NoSuchSnapshotError: the image has none of this name.
        """

    def trash_move(self, name: str, *, delay_seconds: int) -> None:
        """Put the image into the trash, to be kept so long. Ceph does it to an open image too: ask `watchers` first.

        Raises:
            QuotaExceededError: the pool is full, and the image is still there.
        """

    def trash_list(self) -> Sequence[TrashEntry]:
        """What users (none of Ceph's own parts) put into the trash."""

    def trash_restore(self, image_id: str, name: str) -> None:
        """Bring an image back, under this name.

        Raises:
            ImageExistsError: the name is taken.
        """

    def trash_remove(self, image_id: str, *, force: bool = False) -> None:
        """Remove an image of the trash for good.

        Raises:
            TrashRetainedError: its time is not over, and this is no `force`.
            ImageHasSnapshotsError: it has snapshots, or clones depend on them.
            ImageBusyError: it is open somewhere.
        """

    def lock(self, item: str, *, cookie: str, seconds: int) -> None:
        """Take, or prolong, the advisory lock on an item of that name for so many seconds; never waits.

        The holder is this connection together with `cookie`.

        Raises:
            LockHeldError: somebody else holds it.
        """

    def unlock(self, item: str, *, cookie: str) -> None:
        """Give the lock back and leave no trace of it; nothing happens where it ran out or is somebody else's."""

    def claim_note(self, item: str, text: str) -> str | None:
        """Leave a note of that name where there is none, in one step; else the text of the one that is there."""

    def read_note(self, item: str) -> str | None:
        """The text of the note of that name; None where there is none."""

    def drop_note(self, item: str) -> None:
        """Remove the note of that name, soon; nothing happens where there is none.

        This connection sees it at once. A process that is killed may leave the note behind.
        """


class Cluster(Protocol):
    """One connection to a cluster. It ends when nobody refers to it, nor to images that it gave."""

    def is_usable(self) -> bool:
        """Whether it is of use still: a client that was fenced off, for one, has to connect anew."""

    def fsid(self) -> str:
        """Which cluster it is."""

    def pools(self) -> Sequence[str]:
        """The names of all pools."""

    def pool_id(self, name: str) -> int:
        """The number of the pool, which never changes.

        Raises:
            PoolNotFoundError: there is none.
        """

    def pool_name(self, pool_id: int) -> str:
        """The name of the pool with this number.

        Raises:
            PoolNotFoundError: there is none.
        """

    def namespaces(self, pool: str) -> Sequence[str]:
        """The namespaces in the pool, without its own.

        Raises:
            PoolNotFoundError: there is no such pool.
        """

    def stats(self, pool: str) -> PoolStats:
        """How full the pool is.

        Raises:
            PoolNotFoundError: there is none.
        """

    def images(self, place: Place) -> Images:
        """The images of a place; the same object for the same place.

        Raises:
            PoolNotFoundError: there is no such pool.
            NamespaceNotFoundError: the pool has no such namespace.
        """

    def fence(self, address: str, *, seconds: int) -> None:
        """Put a client's address on the blocklist: whatever it still writes fails. Repeating prolongs it."""

    def fenced(self) -> Collection[str]:
        """The addresses on the blocklist."""
