"""A Ceph cluster in memory: what `rbd_client` reads and changes, and the ways to trouble it.

It knows half-made images, watchers of strangers, full pools and calls that fail, hang or kill at a named step. The
contract suite runs over it and over a real cluster, so that a test that uses it learns nothing false.
"""

import collections
import dataclasses
import datetime
import itertools
import threading
from collections.abc import Callable, Iterator

from provisioner import model
from provisioner.backends.rbd.client import api, errors

STRANGER = "10.0.0.9:0/4711"


class Killed(BaseException):
    """The process ended here."""


@dataclasses.dataclass(eq=False)
class Snapshot:
    id: int
    name: str
    size: int
    created: datetime.datetime
    trashed: bool = False
    content: str = ""


@dataclasses.dataclass(eq=False)
class Image:
    id: str
    name: str
    place: api.Place
    whole: bool = False
    size: int = 0
    layout: api.Layout = dataclasses.field(default_factory=api.Layout)
    created: datetime.datetime = dataclasses.field(default_factory=lambda: datetime.datetime.now(datetime.UTC))
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)
    parent: tuple["Image", Snapshot] | None = None
    snapshots: list[Snapshot] = dataclasses.field(default_factory=list)
    watchers: list[api.Watcher] = dataclasses.field(default_factory=list)
    owner: api.LockOwner | None = None
    trash: api.TrashEntry | None = None
    content: str = ""


@dataclasses.dataclass(eq=False)
class Lock:
    holder: tuple[int, str]
    until: datetime.datetime


class Faults:
    """What happens at which step. A step is a method's name, or, for what has several, as `create:header`.

    `create` and `clone` reach, in this order, `create`, `create:listed` (half-made), `create:made` (whole, without
    the metadata asked for), `create:done`; every other call reaches its name before it begins, and `NAME:done` after.
    """

    def __init__(self) -> None:
        self._hooks: dict[str, Callable[[], None]] = {}
        self.calls: collections.Counter[str] = collections.Counter()

    def on(self, step: str, hook: Callable[[], None]) -> None:
        """Call `hook` whenever `step` is reached; it may raise, or wait for an event to make the call hang."""
        self._hooks[step] = hook

    def fail(self, step: str, error: BaseException, *, times: int | None = None) -> None:
        """Raise `error` whenever `step` is reached, or only so many times."""
        left = itertools.count() if times is None else iter(range(times))

        def hook() -> None:
            if next(left, None) is not None:
                raise error

        self.on(step, hook)

    def kill(self, step: str) -> None:
        """End the process when `step` is reached, once."""
        self.fail(step, Killed(step), times=1)

    def mend(self, step: str) -> None:
        """Let `step` work again."""
        self._hooks.pop(step, None)

    def reach(self, step: str) -> None:
        self.calls[step] += 1
        self._hooks.get(step, lambda: None)()


class Ceph:
    """The cluster.

    Attributes:
        key: the one that connections must have.
        pools: the namespaces of each pool.
        quotas: bytes, of the pools that have one.
        used: bytes that are written, of the pools that have any.
        full: pools that take no new objects: no image, no lock; whatever needs none is done.
        fenced: the blocklist.
        now: tells the time; replace it to let time pass.
    """

    def __init__(self, *, pools: tuple[str, ...] = ("kube",), room: int = 100 * model.GIB, key: str = "key") -> None:
        self.key = key
        self.room = room
        self.lock = threading.RLock()
        self.faults = Faults()
        self.pools: dict[str, set[str]] = {pool: set() for pool in pools}
        self.quotas: dict[str, int] = {}
        self.used: dict[str, int] = {}
        self.full: set[str] = set()
        self.fenced: set[str] = set()
        self.everything: list[Image] = []
        self.locks: dict[tuple[api.Place, str], Lock] = {}
        self.notes: dict[tuple[api.Place, str], str] = {}
        self.now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC)
        self.numbers = itertools.count(4100)

    def add_pool(self, pool: str) -> None:
        self.pools[pool] = set()

    def add_namespace(self, pool: str, namespace: str) -> None:
        self.pools[pool].add(namespace)

    def passing(self, seconds: float) -> None:
        """Let so many seconds pass at once."""
        before = self.now
        self.now = lambda: before() + datetime.timedelta(seconds=seconds)

    # --- what the calls look up

    def check_pool(self, pool: str) -> None:
        if pool not in self.pools:
            raise errors.PoolNotFoundError(f"cluster fake has no pool {pool}")

    def check_room(self, pool: str) -> None:
        if pool in self.full:
            raise errors.QuotaExceededError(f"pool {pool} is full")

    def images(self, place: api.Place) -> Iterator[Image]:
        """The listed images."""
        return (image for image in self.everything if image.place == place and image.trash is None)

    def named(self, place: api.Place, name: str) -> Image | None:
        """The image of this name, whole or not."""
        return next((image for image in self.images(place) if image.name == name), None)

    def image(self, place: api.Place, name: str) -> Image:
        """The whole image of this name."""
        image = self.named(place, name)
        if image is None:
            raise errors.ImageNotFoundError(f"there is no image {name} in {place}")
        if not image.whole:
            raise errors.ImageIncompleteError(f"image {name} in {place} was only half made")
        return image

    def by_id(self, place: api.Place, image_id: str) -> Image:
        """The whole image of this id, listed or in the trash."""
        for image in self.everything:
            if image.place == place and image.id == image_id and image.whole:
                return image
        raise errors.ImageNotFoundError(f"there is no image with id {image_id} in {place}")

    def children(self, parent: Image, snapshot: Snapshot) -> list[Image]:
        return [child for child in self.everything if child.parent == (parent, snapshot)]

    def forget(self, image: Image) -> None:
        """Remove the image, and let go of its parent."""
        self.everything.remove(image)
        self.detach(image)

    def detach(self, image: Image) -> None:
        """Let go of the parent; a trashed snapshot goes with its last child."""
        if image.parent is None:
            return
        parent, snapshot = image.parent
        image.parent = None
        if snapshot.trashed and not self.children(parent, snapshot):
            parent.snapshots.remove(snapshot)

    def fence(self, address: str) -> None:
        """Put a client on the blocklist: it watches nothing any more, and its locks stay."""
        self.fenced.add(address)
        for image in self.everything:
            image.watchers = [watcher for watcher in image.watchers if watcher.address != address]

    # --- ways to trouble it

    def half_make(self, place: api.Place, name: str) -> None:
        """Leave what a client leaves that was killed while it made an image."""
        self.everything.append(Image(id=f"{next(self.numbers):x}", name=name, place=place))

    def watch(self, place: api.Place, name: str, *, address: str = STRANGER) -> None:
        """Have a stranger open the image and hold its exclusive lock."""
        image = self.image(place, name)
        number = next(self.numbers)
        image.watchers.append(api.Watcher(address, number, 1))
        image.owner = image.owner or api.LockOwner(address, f"client.{number}", "auto 1")

    def leave(self, place: api.Place, name: str, *, address: str = STRANGER, cleanly: bool = True) -> None:
        """Have the stranger go; not `cleanly` as one whose machine died: the lock stays."""
        for image in self.everything:
            if (image.place, image.name) == (place, name):
                image.watchers = [watcher for watcher in image.watchers if watcher.address != address]
                if cleanly and image.owner is not None and image.owner.address == address:
                    image.owner = None
