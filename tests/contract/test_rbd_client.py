"""What the RBD backend may expect of Ceph: one suite, over the fake and over a real cluster.

Whoever changes the fake learns here whether Ceph does the same.
"""

import dataclasses
import datetime
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from typing import Any

import pytest

from provisioner import model
from provisioner.backends.rbd.client import api, binding, connect, errors, librbd, session
from tests.fakes import rbd_client, rbd_state
from tests.harness import ceph as ceph_harness
from tests.harness import needs

SIZE = 64 * model.MIB
THREADS = 16


@dataclasses.dataclass(frozen=True)
class Storage:
    """A place with nothing in it, and the ways to trouble it.

    Attributes:
        other: a second connection, as another process would have it.
        half_make: leave what a client leaves that was killed while it made an image.
        opened: have somebody else open an image and hold its lock; what is returned makes them leave.
    """

    cluster: api.Cluster
    other: api.Cluster
    place: api.Place
    half_make: Callable[[str], None]
    opened: Callable[[str], Callable[[], None]]

    @property
    def images(self) -> api.Images:
        return self.cluster.images(self.place)


def credentials(cluster: ceph_harness.CephCluster, **changed: Any) -> api.Credentials:
    given = api.Credentials(cluster="test", monitors=cluster.monitors, user=ceph_harness.USER, key=cluster.key)
    return dataclasses.replace(given, **changed)


_numbers = iter(range(10_000))


def _fake(request: pytest.FixtureRequest, *, namespaced: bool) -> Storage:
    state = rbd_state.Ceph()
    place = api.Place("kube", "ours" if namespaced else "")
    if namespaced:
        state.add_namespace("kube", "ours")

    def opened(name: str) -> Callable[[], None]:
        state.watch(place, name)
        return lambda: state.leave(place, name)

    cluster, other = rbd_client.connect(state), rbd_client.connect(state)
    return Storage(cluster, other, place, lambda name: state.half_make(place, name), opened)


def _real(request: pytest.FixtureRequest, *, namespaced: bool) -> Storage:
    real: ceph_harness.CephCluster = request.getfixturevalue("bluestore" if namespaced else "ceph")
    # An administrator who is quick: a pool by the command line takes a second.
    who = credentials(real, user="admin", key=real.key_of("client.admin"))
    admin = session.Session(who, connect.DEFAULT_LIMITS)
    place = api.Place(f"pool{next(_numbers)}", "ours" if namespaced else "")
    admin.handle.create_pool(place.pool)
    request.addfinalizer(lambda: admin.handle.delete_pool(place.pool))
    if namespaced:
        ioctx = admin.handle.open_ioctx(place.pool)
        binding.load().rbd.RBD().namespace_create(ioctx, place.namespace)
    cluster, other = (librbd.LibradosCluster(credentials(real)) for _ in range(2))
    images = other.images(place)

    def half_make(name: str) -> None:
        images.ioctx.remove_object(f"rbd_header.{images.create(name, SIZE)}")

    def opened(name: str) -> Callable[[], None]:
        image = binding.load().rbd.Image(images.ioctx, name)
        image.write(b"x", 0)
        request.addfinalizer(image.close)
        return lambda: image.close()  # noqa: PLW0108  (once more is harmless)

    return Storage(cluster, other, place, half_make, opened)


@pytest.fixture(scope="module")
def bluestore() -> Iterator[ceph_harness.CephCluster]:
    """The other store, for those with a namespace."""
    needs.require(ceph_harness.NEEDS)
    with ceph_harness.CephCluster(store="bluestore") as cluster:
        yield cluster


def _storage(request: pytest.FixtureRequest) -> Storage:
    kind, _, namespace = request.param.partition("-")
    make = _fake if kind == "fake" else _real
    return make(request, namespaced=bool(namespace))


@pytest.fixture(params=["fake", "fake-namespace", "ceph", "bluestore-namespace"])
def storage(request: pytest.FixtureRequest) -> Storage:
    return _storage(request)


@pytest.fixture(params=["fake-namespace", "bluestore-namespace"])
def namespaced(request: pytest.FixtureRequest) -> Storage:
    return _storage(request)


@pytest.fixture
def images(storage: Storage) -> api.Images:
    return storage.images


def names(images: api.Images) -> list[str]:
    return sorted(entry.name for entry in images.list())


def snapshot_names(images: api.Images, name: str) -> list[str]:
    return [snapshot.name for snapshot in images.snapshots(name) if not snapshot.trashed]


# --- places


def test_a_pool_is_known_by_its_name_and_by_its_number(storage: Storage) -> None:
    number = storage.cluster.pool_id(storage.place.pool)

    assert storage.place.pool in storage.cluster.pools()
    assert storage.cluster.pool_name(number) == storage.place.pool


def test_a_pool_that_is_not_there_is_said_so_at_once(storage: Storage) -> None:
    with pytest.raises(errors.PoolNotFoundError, match="nowhere"):
        storage.cluster.pool_id("nowhere")
    with pytest.raises(errors.PoolNotFoundError, match="4711"):
        storage.cluster.pool_name(4711)
    with pytest.raises(errors.PoolNotFoundError, match="nowhere"):
        storage.cluster.images(api.Place("nowhere"))
    with pytest.raises(errors.PoolNotFoundError, match="nowhere"):
        storage.cluster.stats("nowhere")


def test_a_namespace_that_is_not_there_is_said_so(storage: Storage) -> None:
    with pytest.raises(errors.NamespaceNotFoundError, match="theirs"):
        storage.cluster.images(api.Place(storage.place.pool, "theirs"))


def test_the_namespaces_of_a_pool_are_listed(storage: Storage) -> None:
    expected = [storage.place.namespace] if storage.place.namespace else []

    assert storage.cluster.namespaces(storage.place.pool) == expected


def test_the_same_place_is_the_same_object(storage: Storage) -> None:
    assert storage.cluster.images(storage.place) is storage.images


def test_two_connections_are_of_the_same_cluster(storage: Storage) -> None:
    assert storage.cluster.fsid() == storage.other.fsid()


def test_a_pool_has_room_for_more_and_no_quota(storage: Storage) -> None:
    deadline = time.monotonic() + 20
    while not storage.cluster.stats(storage.place.pool).max_avail and time.monotonic() < deadline:
        time.sleep(0.2)  # Ceph counts a new pool within a second or two.

    stats = storage.cluster.stats(storage.place.pool)

    assert stats.max_avail > model.GIB
    assert stats.quota == 0


# --- images


def test_a_new_image_has_the_size_and_the_metadata_that_it_was_made_with(images: api.Images) -> None:
    image_id = images.create("one", SIZE, metadata={"a": "1", "ü": "ö\n"})

    assert images.find("one") == api.ImageRecord(id=image_id, name="one", size=SIZE, metadata={"a": "1", "ü": "ö\n"})
    assert list(images.list()) == [api.ImageEntry(image_id, "one")]
    assert images.exists("one")


def test_a_new_image_is_seen_by_every_connection(storage: Storage) -> None:
    image_id = storage.images.create("one", SIZE)

    assert storage.other.images(storage.place).find("one").id == image_id


def test_an_image_is_inspected_in_full(images: api.Images) -> None:
    layout = api.Layout(features=frozenset({"layering", "exclusive-lock"}), order=20, stripe_unit=65536, stripe_count=4)
    before = datetime.datetime.now(datetime.UTC)
    image_id = images.create("one", SIZE, layout=layout, metadata={"a": "1"})

    info = images.inspect("one")

    assert (info.id, info.name, info.size, info.metadata) == (image_id, "one", SIZE, {"a": "1"})
    assert info.layout == dataclasses.replace(layout, features=layout.features | {"striping"})
    assert info.parent is None
    assert abs(info.created - before) < datetime.timedelta(seconds=10)


def test_an_image_without_wishes_has_the_default_layout(images: api.Images) -> None:
    images.create("one", SIZE)

    layout = images.inspect("one").layout

    assert layout.features == api.DEFAULT_FEATURES
    assert (layout.data_pool, layout.order, layout.stripe_count) == ("", 22, 1)


def test_a_name_is_taken_once(images: api.Images) -> None:
    images.create("one", SIZE, metadata={"first": "yes"})

    with pytest.raises(errors.ImageExistsError):
        images.create("one", 2 * SIZE, metadata={"first": "no"})

    assert images.find("one").metadata == {"first": "yes"}


def test_of_many_who_make_the_same_image_one_does(storage: Storage) -> None:
    def make(number: int) -> bool:
        cluster = storage.cluster if number % 2 else storage.other
        try:
            cluster.images(storage.place).create("one", SIZE)
        except errors.ImageExistsError:
            return False
        return True

    with futures.ThreadPoolExecutor(THREADS) as pool:
        made = list(pool.map(make, range(THREADS)))

    assert made.count(True) == 1
    assert names(storage.images) == ["one"]


def test_many_threads_share_the_images_of_a_place(images: api.Images) -> None:
    def work(number: int) -> None:
        name = f"image-{number}"
        images.create(name, SIZE, metadata={"number": str(number)})
        images.resize(name, 2 * SIZE)
        assert images.find(name).metadata == {"number": str(number)}
        if number % 2:
            images.remove(name)

    with futures.ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, range(3 * THREADS)))

    assert names(images) == sorted(f"image-{number}" for number in range(0, 3 * THREADS, 2))


@pytest.mark.parametrize("size", [0, 1, 8 * 2**60 - 1], ids=["nothing", "a-byte", "8EiB"])
def test_ceph_accepts_sizes_that_nobody_should_ask_for(images: api.Images, size: int) -> None:
    images.create("odd", size, layout=api.Layout(features=frozenset({"layering"})))

    assert images.find("odd").size == size


def test_an_image_with_more_objects_than_an_object_map_holds_is_refused(images: api.Images) -> None:
    with pytest.raises(errors.InvalidImageError):
        images.create("odd", 8 * 2**60 - 1)

    assert names(images) == []


@pytest.mark.parametrize("name", ["a/b", "a@b", "ü", "x" * 200], ids=["slash", "at", "unicode", "long"])
def test_ceph_accepts_names_that_nobody_should_give(images: api.Images, name: str) -> None:
    images.create(name, SIZE)

    assert names(images) == [name]
    images.remove(name)
    assert not images.exists(name)


@pytest.mark.parametrize(
    "layout",
    [
        api.Layout(features=frozenset({"teleport"})),
        api.Layout(features=frozenset({"object-map"})),
        api.Layout(order=40),
        api.Layout(stripe_unit=4096),
        api.Layout(stripe_unit=3, stripe_count=2),
    ],
    ids=["unknown-feature", "feature-alone", "order", "half-striped", "odd-stripes"],
)
def test_an_image_that_cannot_be_is_refused(images: api.Images, layout: api.Layout) -> None:
    with pytest.raises(errors.InvalidImageError):
        images.create("odd", SIZE, layout=layout)

    assert names(images) == []


def test_an_unknown_data_pool_is_refused(images: api.Images) -> None:
    with pytest.raises(errors.PoolNotFoundError):
        images.create("odd", SIZE, layout=api.Layout(data_pool="nowhere"))

    assert names(images) == []


def test_what_is_not_there_is_not_found(images: api.Images) -> None:
    ref = api.SnapshotRef(images.place, "none", "none")
    owner = api.LockOwner("10.0.0.1:0/1", "client.1", "auto 1")
    calls: Mapping[str, Callable[[], object]] = {
        "find": lambda: images.find("none"),
        "inspect": lambda: images.inspect("none"),
        "metadata": lambda: images.metadata("none"),
        "set_metadata": lambda: images.set_metadata("none", {"a": "1"}),
        "remove_metadata": lambda: images.remove_metadata("none", ["a"]),
        "resize": lambda: images.resize("none", SIZE),
        "remove": lambda: images.remove("none"),
        "flatten": lambda: images.flatten("none"),
        "watchers": lambda: images.watchers("none"),
        "lock_owner": lambda: images.lock_owner("none"),
        "break_lock": lambda: images.break_lock("none", owner),
        "create_snapshot": lambda: images.create_snapshot("none", "s"),
        "snapshots": lambda: images.snapshots("none"),
        "remove_snapshot": lambda: images.remove_snapshot("none", "s"),
        "children": lambda: images.children("none", "s"),
        "trash_move": lambda: images.trash_move("none", delay_seconds=0),
        "trash_restore": lambda: images.trash_restore("none", "one"),
        "trash_remove": lambda: images.trash_remove("none"),
    }

    for call in calls.values():
        with pytest.raises(errors.ImageNotFoundError):
            call()
    with pytest.raises((errors.ImageNotFoundError, errors.NoSuchSnapshotError)):
        images.clone(ref, "child")
    assert not images.exists("none")
    assert names(images) == []


# --- half-made images


def test_a_half_made_image_is_listed_and_taken_but_cannot_be_used(storage: Storage) -> None:
    storage.half_make("half")

    assert names(storage.images) == ["half"]
    assert storage.images.exists("half")
    with pytest.raises(errors.ImageIncompleteError):
        storage.images.find("half")
    with pytest.raises(errors.ImageNotFoundError):
        storage.images.watchers("half")
    with pytest.raises(errors.ImageExistsError):
        storage.images.create("half", SIZE)


def test_a_half_made_image_is_removed_and_made_anew(storage: Storage) -> None:
    storage.half_make("half")

    storage.images.remove("half")
    assert names(storage.images) == []
    image_id = storage.images.create("half", SIZE, metadata={"a": "1"})

    assert storage.images.find("half").id == image_id


def test_a_half_made_image_can_go_through_the_trash(storage: Storage) -> None:
    storage.half_make("half")

    storage.images.trash_move("half", delay_seconds=0)
    assert names(storage.images) == []
    (entry,) = storage.images.trash_list()
    storage.images.trash_remove(entry.id)

    assert list(storage.images.trash_list()) == []


# --- metadata


def test_metadata_is_added_replaced_and_removed(images: api.Images) -> None:
    image_id = images.create("one", SIZE, metadata={"keep": "1", "change": "1", "drop": "1"})

    images.set_metadata(image_id, {"change": "2", "add": "2"})
    images.remove_metadata(image_id, ["drop", "never-there"])

    assert images.metadata(image_id) == {"keep": "1", "change": "2", "add": "2"}


def test_metadata_may_be_plenty(images: api.Images) -> None:
    plenty = {f"key-{number:03}": "x" * (1000 + number) for number in range(200)}
    image_id = images.create("one", SIZE, metadata=plenty)

    assert images.metadata(image_id) == plenty


def test_metadata_may_have_one_long_value(images: api.Images) -> None:
    image_id = images.create("one", SIZE, metadata={"long": "x" * 200_000, "short": "y"})

    assert images.metadata(image_id) == {"long": "x" * 200_000, "short": "y"}


# --- size


def test_an_image_grows_and_never_shrinks(images: api.Images) -> None:
    images.create("one", SIZE)

    images.resize("one", 2 * SIZE)
    images.resize("one", 2 * SIZE)
    with pytest.raises(errors.ShrinkRefusedError):
        images.resize("one", SIZE)

    assert images.find("one").size == 2 * SIZE


def test_an_image_grows_while_somebody_has_it_open(storage: Storage) -> None:
    storage.images.create("one", SIZE)
    storage.opened("one")

    storage.images.resize("one", 2 * SIZE)

    assert storage.images.find("one").size == 2 * SIZE


# --- watchers, locks and fences


def test_looking_at_an_image_leaves_no_watcher(images: api.Images) -> None:
    images.create("one", SIZE)

    images.inspect("one")

    assert list(images.watchers("one")) == []
    assert images.lock_owner("one") is None


def test_who_has_an_image_open_is_seen_and_so_is_that_they_left(storage: Storage) -> None:
    storage.images.create("one", SIZE)
    leave = storage.opened("one")

    (watcher,) = storage.images.watchers("one")
    owner = storage.images.lock_owner("one")
    leave()

    assert owner is not None
    assert (owner.address, owner.client) == (watcher.address, f"client.{watcher.client}")
    assert list(storage.images.watchers("one")) == []
    assert storage.images.lock_owner("one") is None


def test_an_image_that_is_open_cannot_be_removed(storage: Storage) -> None:
    storage.images.create("one", SIZE)
    storage.opened("one")

    with pytest.raises(errors.ImageBusyError):
        storage.images.remove("one")

    assert storage.images.exists("one")


def test_an_image_that_is_open_goes_to_the_trash_all_the_same_but_no_further(storage: Storage) -> None:
    image_id = storage.images.create("one", SIZE)
    leave = storage.opened("one")

    storage.images.trash_move("one", delay_seconds=0)
    with pytest.raises(errors.ImageBusyError):
        storage.images.trash_remove(image_id)
    leave()
    storage.images.trash_remove(image_id)

    assert list(storage.images.trash_list()) == []


def test_a_lock_that_nobody_holds_is_broken_already(images: api.Images) -> None:
    images.create("one", SIZE)

    images.break_lock("one", api.LockOwner("10.0.0.1:0/1", "client.1", "auto 1"))

    assert images.lock_owner("one") is None


def test_a_lock_is_broken_and_its_owner_is_fenced(storage: Storage) -> None:
    storage.images.create("one", SIZE)
    storage.opened("one")
    owner = storage.images.lock_owner("one")
    assert owner is not None

    storage.images.break_lock("one", owner)

    assert storage.images.lock_owner("one") is None
    assert owner.address in storage.cluster.fenced()


def test_a_lock_is_not_taken_from_another_owner_than_said(storage: Storage) -> None:
    storage.images.create("one", SIZE)
    storage.opened("one")
    owner = storage.images.lock_owner("one")
    assert owner is not None

    with pytest.raises(errors.ImageBusyError):
        storage.images.break_lock("one", dataclasses.replace(owner, address="10.0.0.1:0/1"))

    assert storage.images.lock_owner("one") == owner


def test_a_fenced_client_is_on_the_list_and_its_connection_is_of_no_more_use(storage: Storage) -> None:
    storage.images.create("one", SIZE)
    storage.opened("one")  # by the other connection
    (watcher,) = storage.images.watchers("one")

    storage.cluster.fence(watcher.address, seconds=600)
    storage.cluster.fence(watcher.address, seconds=600)

    assert watcher.address in storage.cluster.fenced()
    assert storage.cluster.is_usable()


def test_an_advisory_lock_has_one_holder(storage: Storage) -> None:
    theirs = storage.other.images(storage.place)
    storage.images.lock("work", cookie="a", seconds=60)

    storage.images.lock("work", cookie="a", seconds=60)
    with pytest.raises(errors.LockHeldError):
        storage.images.lock("work", cookie="b", seconds=60)
    with pytest.raises(errors.LockHeldError):
        theirs.lock("work", cookie="a", seconds=60)
    theirs.lock("other work", cookie="a", seconds=60)


def test_an_advisory_lock_is_given_back_by_its_holder_alone(storage: Storage) -> None:
    theirs = storage.other.images(storage.place)
    storage.images.lock("work", cookie="a", seconds=60)

    theirs.unlock("work", cookie="a")
    with pytest.raises(errors.LockHeldError):
        theirs.lock("work", cookie="a", seconds=60)
    storage.images.unlock("work", cookie="a")
    storage.images.unlock("work", cookie="a")

    theirs.lock("work", cookie="a", seconds=60)


def test_an_advisory_lock_runs_out(storage: Storage) -> None:
    storage.images.lock("work", cookie="a", seconds=1)
    theirs = storage.other.images(storage.place)

    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            theirs.lock("work", cookie="b", seconds=60)
        except errors.LockHeldError:
            time.sleep(0.1)
            continue
        break

    with pytest.raises(errors.LockHeldError):
        storage.images.lock("work", cookie="a", seconds=1)


# --- snapshots and clones


def test_snapshots_are_taken_listed_and_removed(images: api.Images) -> None:
    images.create("one", SIZE)
    before = datetime.datetime.now(datetime.UTC)
    images.create_snapshot("one", "first")
    images.resize("one", 2 * SIZE)
    images.create_snapshot("one", "second")

    first, second = images.snapshots("one")
    images.remove_snapshot("one", "first")

    assert [first.name, second.name] == ["first", "second"]
    assert [first.size, second.size] == [SIZE, 2 * SIZE]
    assert first.id != second.id
    assert abs(first.created - before) < datetime.timedelta(seconds=10)
    assert snapshot_names(images, "one") == ["second"]


def test_a_snapshot_name_is_taken_once_per_image(images: api.Images) -> None:
    images.create("one", SIZE)
    images.create("two", SIZE)
    images.create_snapshot("one", "s")
    images.create_snapshot("two", "s")

    with pytest.raises(errors.SnapshotTakenError):
        images.create_snapshot("one", "s")


def test_a_snapshot_that_is_not_there_is_not_found(images: api.Images) -> None:
    images.create("one", SIZE)

    with pytest.raises(errors.NoSuchSnapshotError):
        images.remove_snapshot("one", "none")
    with pytest.raises(errors.NoSuchSnapshotError):
        images.children("one", "none")
    with pytest.raises(errors.NoSuchSnapshotError):
        images.clone(api.SnapshotRef(images.place, "one", "none"), "child")
    assert names(images) == ["one"]


def test_a_snapshot_keeps_its_image_from_being_removed(images: api.Images) -> None:
    images.create("one", SIZE)
    images.create_snapshot("one", "s")

    with pytest.raises(errors.ImageHasSnapshotsError):
        images.remove("one")

    images.remove_snapshot("one", "s")
    images.remove("one")
    assert names(images) == []


def _clone(images: api.Images, child: str = "child", **options: Any) -> str:
    if not images.exists("one"):
        images.create("one", SIZE, metadata={"owner": "parent", "more": "of it"})
        images.create_snapshot("one", "s")
    return images.clone(api.SnapshotRef(images.place, "one", "s"), child, **options)


def test_a_clone_has_its_own_metadata_and_none_of_its_parents(images: api.Images) -> None:
    image_id = _clone(images, metadata={"owner": "child"})

    assert images.find("child") == api.ImageRecord(id=image_id, name="child", size=SIZE, metadata={"owner": "child"})


def test_a_clone_knows_its_parent_and_is_known_to_it(images: api.Images) -> None:
    image_id = _clone(images)

    parent = images.inspect("child").parent
    children = images.children("one", "s")

    assert parent == api.Parent(
        place=images.place, image_id=images.find("one").id, image="one", snapshot="s", trashed=False
    )
    assert list(children) == [api.Child(place=images.place, image_id=image_id, image="child", trashed=False)]


def test_a_clone_is_not_made_over_another_image(images: api.Images) -> None:
    _clone(images)

    with pytest.raises(errors.ImageExistsError):
        _clone(images)


def test_a_removed_snapshot_with_a_child_stays_in_the_background_until_the_last_one_goes(images: api.Images) -> None:
    _clone(images, "child")
    _clone(images, "sibling")

    images.remove_snapshot("one", "s")
    assert snapshot_names(images, "one") == []
    assert [(each.name, each.trashed) for each in images.snapshots("one")] == [("s", True)]
    images.remove("child")
    assert len(images.snapshots("one")) == 1
    images.flatten("sibling")

    assert list(images.snapshots("one")) == []
    assert images.inspect("sibling").parent is None


def test_a_parent_in_the_trash_serves_its_children_and_stays_until_they_are_flattened(images: api.Images) -> None:
    _clone(images)
    parent_id = images.find("one").id
    images.remove_snapshot("one", "s")
    images.trash_move("one", delay_seconds=0)

    parent = images.inspect("child").parent
    assert parent is not None
    assert (parent.image_id, parent.trashed) == (parent_id, True)
    with pytest.raises(errors.ImageHasSnapshotsError):
        images.trash_remove(parent_id)
    images.flatten("child")
    images.trash_remove(parent_id)

    assert list(images.trash_list()) == []


def test_a_child_in_the_trash_still_counts(images: api.Images) -> None:
    _clone(images)
    images.trash_move("child", delay_seconds=3600)

    (child,) = images.children("one", "s")

    assert (child.image, child.trashed) == ("child", True)


def test_flattening_an_image_without_a_parent_does_nothing(images: api.Images) -> None:
    images.create("one", SIZE)

    images.flatten("one")

    assert images.find("one").size == SIZE


# --- trash


def test_the_trash_keeps_an_image_and_its_metadata_for_its_time(images: api.Images) -> None:
    image_id = images.create("one", SIZE, metadata={"a": "1"})
    before = datetime.datetime.now(datetime.UTC)
    images.trash_move("one", delay_seconds=3600)

    (entry,) = images.trash_list()
    with pytest.raises(errors.TrashRetainedError):
        images.trash_remove(image_id)

    assert (entry.id, entry.name) == (image_id, "one")
    assert abs(entry.deleted - before) < datetime.timedelta(seconds=10)
    assert entry.expires - entry.deleted == datetime.timedelta(hours=1)
    assert names(images) == []
    assert not images.exists("one")
    assert images.metadata(image_id) == {"a": "1"}


def test_metadata_can_be_changed_in_the_trash(images: api.Images) -> None:
    image_id = images.create("one", SIZE, metadata={"a": "1"})
    images.trash_move("one", delay_seconds=3600)

    images.set_metadata(image_id, {"b": "2"})

    assert images.metadata(image_id) == {"a": "1", "b": "2"}


def test_the_time_in_the_trash_can_be_cut_short_by_force(images: api.Images) -> None:
    image_id = images.create("one", SIZE)
    images.trash_move("one", delay_seconds=3600)

    images.trash_remove(image_id, force=True)

    assert list(images.trash_list()) == []
    with pytest.raises(errors.ImageNotFoundError):
        images.metadata(image_id)


def test_an_image_comes_back_from_the_trash_under_the_name_asked_for(images: api.Images) -> None:
    image_id = images.create("one", SIZE, metadata={"a": "1"})
    images.trash_move("one", delay_seconds=3600)

    images.trash_restore(image_id, "two")

    assert images.find("two") == api.ImageRecord(id=image_id, name="two", size=SIZE, metadata={"a": "1"})
    assert list(images.trash_list()) == []


def test_an_image_does_not_come_back_over_another(images: api.Images) -> None:
    old = images.create("one", SIZE)
    images.trash_move("one", delay_seconds=3600)
    new = images.create("one", SIZE)

    with pytest.raises(errors.ImageExistsError):
        images.trash_restore(old, "one")

    assert images.find("one").id == new
    assert [entry.id for entry in images.trash_list()] == [old]


def test_namespaces_keep_images_apart(namespaced: Storage) -> None:
    outside = namespaced.cluster.images(api.Place(namespaced.place.pool))
    namespaced.images.create("one", SIZE)

    assert names(outside) == []
    assert outside.create("one", SIZE) != namespaced.images.find("one").id


def test_a_clone_may_be_in_another_namespace(namespaced: Storage) -> None:
    outside = namespaced.cluster.images(api.Place(namespaced.place.pool))
    outside.create("one", SIZE)
    outside.create_snapshot("one", "s")

    image_id = namespaced.images.clone(api.SnapshotRef(outside.place, "one", "s"), "child")

    parent = namespaced.images.inspect("child").parent
    assert parent is not None
    assert parent.place == outside.place
    assert [(child.place, child.image_id) for child in outside.children("one", "s")] == [(namespaced.place, image_id)]
