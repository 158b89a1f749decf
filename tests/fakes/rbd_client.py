"""The client protocol of the RBD backend over the cluster in memory of `rbd_state`.

`connect` gives one connection; several connections to one `Ceph` are several processes.
"""

import contextlib
import datetime
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from provisioner.backends.rbd.client import api, errors
from tests.fakes import rbd_state

_KNOWN_FEATURES = api.DEFAULT_FEATURES | {"striping", "data-pool", "journaling"}
_NEEDS = {"object-map": "exclusive-lock", "fast-diff": "object-map", "journaling": "exclusive-lock"}
_ORDERS = range(12, 27)
_MOST_OBJECTS = 256_000_000


def credentials(key: str = "key") -> api.Credentials:
    return api.Credentials(cluster="fake", monitors=("127.0.0.1:3300",), user="csi", key=key)


def connect(ceph: rbd_state.Ceph, given: api.Credentials | None = None) -> "FakeCluster":
    """One connection more, as another process would have it."""
    given = given or credentials(ceph.key)
    ceph.faults.reach("connect")
    if given.key != ceph.key:
        raise errors.AuthenticationError(f"cluster {given.cluster} refuses user {given.user}")
    return FakeCluster(ceph, next(ceph.numbers))


class FakeCluster:
    """One connection."""

    def __init__(self, ceph: rbd_state.Ceph, client: int) -> None:
        self._ceph = ceph
        self._client = client
        self._images: dict[api.Place, FakeImages] = {}
        self.address = f"127.0.0.1:0/{client}"

    @contextlib.contextmanager
    def call(self, step: str) -> Iterator[rbd_state.Ceph]:
        """One call: reach the step, do the work in one piece, reach its end."""
        self._ceph.faults.reach(step)
        with self._ceph.lock:
            if self.address in self._ceph.fenced:
                raise errors.BlocklistedError("this client was fenced off")
            yield self._ceph
        self._ceph.faults.reach(f"{step}:done")

    def is_usable(self) -> bool:
        return self.address not in self._ceph.fenced

    def fsid(self) -> str:
        with self.call("fsid"):
            return "00000000-0000-4000-8000-000000000000"

    def pools(self) -> Sequence[str]:
        with self.call("pools") as ceph:
            return list(ceph.pools)

    def pool_id(self, name: str) -> int:
        with self.call("pool_id") as ceph:
            ceph.check_pool(name)
            return list(ceph.pools).index(name) + 1

    def pool_name(self, pool_id: int) -> str:
        with self.call("pool_name") as ceph:
            if not 0 < pool_id <= len(ceph.pools):
                raise errors.PoolNotFoundError(f"cluster fake has no pool with id {pool_id}")
            return list(ceph.pools)[pool_id - 1]

    def namespaces(self, pool: str) -> Sequence[str]:
        with self.call("namespaces") as ceph:
            ceph.check_pool(pool)
            return sorted(ceph.pools[pool])

    def stats(self, pool: str) -> api.PoolStats:
        with self.call("stats") as ceph:
            ceph.check_pool(pool)
            return api.PoolStats(max_avail=ceph.room, used=ceph.used.get(pool, 0), quota=ceph.quotas.get(pool, 0))

    def images(self, place: api.Place) -> "FakeImages":
        with self.call("images") as ceph:
            ceph.check_pool(place.pool)
            if place.namespace and place.namespace not in ceph.pools[place.pool]:
                raise errors.NamespaceNotFoundError(f"pool {place.pool} has no namespace {place.namespace}")
            return self._images.setdefault(place, FakeImages(self, ceph, self._client, place))

    def fence(self, address: str, *, seconds: int) -> None:
        with self.call("fence") as ceph:
            ceph.fence(address)

    def fenced(self) -> Collection[str]:
        with self.call("fenced") as ceph:
            return set(ceph.fenced)


class FakeImages:
    """The images of one place."""

    def __init__(self, cluster: FakeCluster, ceph: rbd_state.Ceph, client: int, place: api.Place) -> None:
        self._cluster = cluster
        self._ceph = ceph
        self._client = client
        self._place = place

    @property
    def place(self) -> api.Place:
        return self._place

    @contextlib.contextmanager
    def _image(self, step: str, name: str) -> Iterator[rbd_state.Image]:
        with self._cluster.call(step) as ceph:
            yield ceph.image(self._place, name)

    def create(
        self,
        name: str,
        size: int,
        *,
        layout: api.Layout = api.Layout(),  # noqa: B008  (frozen, as the protocol has it)
        metadata: Mapping[str, str] | None = None,
    ) -> str:
        self._ceph.faults.reach("create")
        if "object-map" in layout.features and size >> (layout.order or 22) > _MOST_OBJECTS:
            raise errors.InvalidImageError("the image has more objects than an object map holds")
        image = self._list_new(name, layout)
        self._ceph.faults.reach("create:listed")
        return self._complete(image, "create", metadata, {"size": size, "layout": layout})

    def clone(
        self,
        parent: api.SnapshotRef,
        name: str,
        *,
        layout: api.Layout = api.Layout(),  # noqa: B008  (frozen, as the protocol has it)
        metadata: Mapping[str, str] | None = None,
    ) -> str:
        self._ceph.faults.reach("clone")
        with self._ceph.lock:
            source = self._ceph.image(parent.place, parent.image)
            snapshot = _snapshot(source, parent.snapshot)
            image = self._list_new(name, layout)
        self._ceph.faults.reach("clone:listed")
        made = {"size": snapshot.size, "layout": layout, "parent": (source, snapshot), "content": snapshot.content}
        return self._complete(image, "clone", metadata, made | {"metadata": dict(source.metadata)})

    def _list_new(self, name: str, layout: api.Layout) -> rbd_state.Image:
        with self._ceph.lock:
            if self._ceph.named(self._place, name) is not None:
                raise errors.ImageExistsError(f"image {name} exists in {self._place}")
            self._check(layout)
            self._ceph.check_room(self._place.pool)
            self._ceph.half_make(self._place, name)
            return self._ceph.everything[-1]

    def _complete(
        self, image: rbd_state.Image, step: str, metadata: Mapping[str, str] | None, made: dict[str, Any]
    ) -> str:
        with self._ceph.lock:
            for field, value in made.items():
                setattr(image, field, value)
            image.created, image.whole = self._ceph.now(), True
        self._ceph.faults.reach(f"{step}:made")
        with self._ceph.lock:
            image.metadata = dict(metadata or {})
        self._ceph.faults.reach(f"{step}:done")
        return image.id

    def _check(self, layout: api.Layout) -> None:
        if layout.data_pool:
            self._ceph.check_pool(layout.data_pool)
        unknown = layout.features - _KNOWN_FEATURES
        if unknown:
            raise errors.InvalidImageError(f"there is no image feature {min(unknown)}")
        lacking = [name for name, need in _NEEDS.items() if name in layout.features and need not in layout.features]
        if lacking or (layout.order and layout.order not in _ORDERS):
            raise errors.InvalidImageError("no image can be like this")
        object_size = 1 << (layout.order or 22)
        if bool(layout.stripe_unit) != bool(layout.stripe_count) or (
            layout.stripe_unit and object_size % layout.stripe_unit
        ):
            raise errors.InvalidImageError("no image can be striped like this")

    def list(self) -> Sequence[api.ImageEntry]:
        with self._cluster.call("list") as ceph:
            return sorted(
                (api.ImageEntry(image.id, image.name) for image in ceph.images(self._place)), key=lambda e: e.name
            )

    def find(self, name: str) -> api.ImageRecord:
        with self._image("find", name) as image:
            return api.ImageRecord(id=image.id, name=name, size=image.size, metadata=dict(image.metadata))

    def inspect(self, name: str) -> api.ImageInfo:
        with self._image("inspect", name) as image:
            return api.ImageInfo(
                id=image.id,
                name=name,
                size=image.size,
                layout=_seen(image.layout),
                created=image.created,
                metadata=dict(image.metadata),
                parent=_parent(image),
            )

    def exists(self, name: str) -> bool:
        with self._cluster.call("exists") as ceph:
            return ceph.named(self._place, name) is not None

    def metadata(self, image_id: str) -> Mapping[str, str]:
        with self._cluster.call("metadata") as ceph:
            return dict(ceph.by_id(self._place, image_id).metadata)

    def set_metadata(self, image_id: str, pairs: Mapping[str, str]) -> None:
        with self._cluster.call("set_metadata") as ceph:
            ceph.by_id(self._place, image_id).metadata.update(pairs)

    def remove_metadata(self, image_id: str, keys: Collection[str]) -> None:
        with self._cluster.call("remove_metadata") as ceph:
            image = ceph.by_id(self._place, image_id)
            for key in keys:
                image.metadata.pop(key, None)

    def resize(self, name: str, size: int) -> None:
        with self._image("resize", name) as image:
            if size < image.size:
                raise errors.ShrinkRefusedError(f"image {name} has {image.size} bytes, more than {size}")
            image.size = size

    def remove(self, name: str) -> None:
        with self._cluster.call("remove") as ceph:
            image = ceph.named(self._place, name)
            if image is None:
                raise errors.ImageNotFoundError(f"there is no image {name} in {self._place}")
            _check_free(image)
            ceph.forget(image)

    def flatten(self, name: str) -> None:
        with self._image("flatten", name) as image:
            self._ceph.detach(image)

    def watchers(self, name: str) -> Sequence[api.Watcher]:
        with self._image("watchers", name) as image:
            return tuple(image.watchers)

    def lock_owner(self, name: str) -> api.LockOwner | None:
        with self._image("lock_owner", name) as image:
            return image.owner

    def break_lock(self, name: str, owner: api.LockOwner) -> None:
        with self._image("break_lock", name) as image:
            if image.owner is None:
                return
            if image.owner.address != owner.address:
                raise errors.ImageBusyError(f"the lock of image {name} is held by {image.owner.address}")
            image.owner = None
            self._ceph.fence(owner.address)

    def create_snapshot(self, name: str, snapshot: str) -> None:
        with self._image("create_snapshot", name) as image:
            if any(one.name == snapshot and not one.trashed for one in image.snapshots):
                raise errors.SnapshotTakenError(f"image {name} has a snapshot {snapshot}")
            number = next(self._ceph.numbers)
            taken = rbd_state.Snapshot(number, snapshot, image.size, self._ceph.now(), content=image.content)
            image.snapshots.append(taken)

    def snapshots(self, name: str) -> Sequence[api.SnapshotInfo]:
        with self._image("snapshots", name) as image:
            return [
                api.SnapshotInfo(id=one.id, name=one.name, size=one.size, created=one.created, trashed=one.trashed)
                for one in image.snapshots
            ]

    def remove_snapshot(self, name: str, snapshot: str) -> None:
        with self._image("remove_snapshot", name) as image:
            one = _snapshot(image, snapshot)
            if self._ceph.children(image, one):
                one.trashed = True
            else:
                image.snapshots.remove(one)

    def children(self, name: str, snapshot: str) -> Sequence[api.Child]:
        with self._image("children", name) as image:
            return [
                api.Child(place=child.place, image_id=child.id, image=child.name, trashed=child.trash is not None)
                for child in self._ceph.children(image, _snapshot(image, snapshot))
            ]

    def trash_move(self, name: str, *, delay_seconds: int) -> None:
        with self._cluster.call("trash_move") as ceph:
            image = ceph.named(self._place, name)
            if image is None:
                raise errors.ImageNotFoundError(f"there is no image {name} in {self._place}")
            now = ceph.now()
            expires = now + datetime.timedelta(seconds=delay_seconds)
            image.trash = api.TrashEntry(id=image.id, name=name, deleted=now, expires=expires)

    def trash_list(self) -> Sequence[api.TrashEntry]:
        with self._cluster.call("trash_list") as ceph:
            return [image.trash for image in ceph.everything if image.place == self._place and image.trash is not None]

    def trash_restore(self, image_id: str, name: str) -> None:
        with self._cluster.call("trash_restore") as ceph:
            image = self._trashed(image_id)
            if ceph.named(self._place, name) is not None:
                raise errors.ImageExistsError(f"image {name} exists in {self._place}")
            image.name, image.trash = name, None

    def trash_remove(self, image_id: str, *, force: bool = False) -> None:
        with self._cluster.call("trash_remove") as ceph:
            image = self._trashed(image_id)
            if image.trash is not None and image.trash.expires > ceph.now() and not force:
                raise errors.TrashRetainedError(f"image {image_id} stays in the trash until {image.trash.expires}")
            _check_free(image)
            ceph.forget(image)

    def _trashed(self, image_id: str) -> rbd_state.Image:
        for image in self._ceph.everything:
            if image.place == self._place and image.id == image_id and image.trash is not None:
                return image
        raise errors.ImageNotFoundError(f"there is no image with id {image_id} in the trash of {self._place}")

    def lock(self, item: str, *, cookie: str, seconds: int) -> None:
        with self._cluster.call("lock") as ceph:
            held = ceph.locks.get((self._place, item))
            if held is None:
                ceph.check_room(self._place.pool)
            holder = (self._client, cookie)
            if held is not None and held.holder != holder and held.until > ceph.now():
                raise errors.LockHeldError(f"{item} in {self._place} is locked")
            until = ceph.now() + datetime.timedelta(seconds=seconds)
            ceph.locks[self._place, item] = rbd_state.Lock(holder, until)

    def unlock(self, item: str, *, cookie: str) -> None:
        with self._cluster.call("unlock") as ceph:
            held = ceph.locks.get((self._place, item))
            if held is not None and held.holder == (self._client, cookie):
                del ceph.locks[self._place, item]

    def claim_note(self, item: str, text: str) -> str | None:
        with self._cluster.call("claim_note") as ceph:
            ceph.check_room(self._place.pool)
            found = ceph.notes.get((self._place, item))
            ceph.notes.setdefault((self._place, item), text)
            return found

    def read_note(self, item: str) -> str | None:
        with self._cluster.call("read_note") as ceph:
            return ceph.notes.get((self._place, item))

    def drop_note(self, item: str) -> None:
        with self._cluster.call("drop_note") as ceph:
            ceph.notes.pop((self._place, item), None)


def _seen(layout: api.Layout) -> api.Layout:
    """The layout as it is read back: with defaults filled in, and the features that follow from it."""
    order = layout.order or 22
    follows = {"data-pool"} if layout.data_pool else set()
    if layout.stripe_count > 1:
        follows.add("striping")
    return api.Layout(
        features=layout.features | follows,
        data_pool=layout.data_pool,
        order=order,
        stripe_unit=layout.stripe_unit or 1 << order,
        stripe_count=layout.stripe_count or 1,
    )


def _parent(image: rbd_state.Image) -> api.Parent | None:
    if image.parent is None:
        return None
    parent, snapshot = image.parent
    return api.Parent(
        place=parent.place,
        image_id=parent.id,
        image=parent.name,
        snapshot=f"trashed-{snapshot.id}" if snapshot.trashed else snapshot.name,
        trashed=parent.trash is not None,
    )


def _snapshot(image: rbd_state.Image, name: str) -> rbd_state.Snapshot:
    for snapshot in image.snapshots:
        if snapshot.name == name and not snapshot.trashed:
            return snapshot
    raise errors.NoSuchSnapshotError(f"image {image.name} has no snapshot {name}")


def _check_free(image: rbd_state.Image) -> None:
    if image.snapshots:
        raise errors.ImageHasSnapshotsError(f"image {image.name} has snapshots")
    if image.watchers:
        raise errors.ImageBusyError(f"image {image.name} is open at {image.watchers[0].address}")
