"""The RBD client on a real cluster in trouble: every call ends in time, says why, and leaves what can be repaired."""

import contextlib
import dataclasses
import gc
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from pathlib import Path

import pytest

from provisioner import model
from provisioner.backends.rbd.client import api, connect, connections, errors, librbd
from tests.harness import ceph as ceph_harness
from tests.harness import needs, process

SIZE = 64 * model.MIB
PLACE = api.Place(ceph_harness.POOL)
QUICK = connect.Limits(connect=3, monitor=3, osd=3)
# One call may wait for several answers, of which librbd takes the first missing one for the end; and 2 cores are few.
PATIENCE = 15
OSDS = ("osd.0", "osd.1", "osd.2")
_MAKER = Path(__file__).with_name("rbd_maker.py")
_WRONG_KEY = "AQBxV2hlAAAAABAAmm0jmSKGUlMFPuqzTLu4Fw=="


@pytest.fixture(scope="module")
def cluster() -> Iterator[ceph_harness.CephCluster]:
    """A cluster of its own: three OSDs on bluestore."""
    needs.require(ceph_harness.NEEDS)
    with ceph_harness.CephCluster(store="bluestore", osds=3) as made:
        yield made


@pytest.fixture
def credentials(cluster: ceph_harness.CephCluster) -> api.Credentials:
    return _credentials(cluster)


@pytest.fixture
def connected(credentials: api.Credentials) -> api.Cluster:
    return librbd.LibradosCluster(credentials, QUICK)


@pytest.fixture
def images(cluster: ceph_harness.CephCluster, connected: api.Cluster) -> Iterator[api.Images]:
    yield connected.images(PLACE)
    # Key and monitors may be others by now.
    found = librbd.LibradosCluster(_credentials(cluster)).images(PLACE)
    for entry in found.list():
        with contextlib.suppress(errors.ImageIncompleteError):
            found.find(entry.name)
            for snapshot in found.snapshots(entry.name):
                found.remove_snapshot(entry.name, snapshot.name)
        found.remove(entry.name)
    for trashed in found.trash_list():
        found.trash_remove(trashed.id, force=True)


def _credentials(cluster: ceph_harness.CephCluster) -> api.Credentials:
    return api.Credentials(cluster="test", monitors=cluster.monitors, user=ceph_harness.USER, key=cluster.key)


def names(images: api.Images) -> list[str]:
    return sorted(entry.name for entry in images.list())


# --- connecting


def refusal(credentials: api.Credentials, kind: type[Exception]) -> str:
    """Why there is no connection, in time, and without a word that is nobody's business."""
    started = time.monotonic()
    with pytest.raises(kind) as refused:
        librbd.LibradosCluster(credentials, QUICK)
    assert time.monotonic() - started < PATIENCE
    told = f"{refused.value} {refused.value!r} {refused.value.__cause__!r}"
    assert "'test'" in told or "cluster test" in told
    for secret in (credentials.key, *credentials.monitors, "127.0.0.1"):
        assert not secret or secret not in told
    return told


def test_a_wrong_key_is_refused_readably(credentials: api.Credentials) -> None:
    refusal(dataclasses.replace(credentials, key=_WRONG_KEY), errors.AuthenticationError)


def test_an_unknown_user_is_refused_readably(credentials: api.Credentials) -> None:
    refusal(dataclasses.replace(credentials, user="nobody"), errors.AuthenticationError)


@pytest.mark.parametrize("key", ["", "hello", "AQBx"], ids=["empty", "no-base64", "short"])
def test_what_is_no_key_is_called_so(credentials: api.Credentials, key: str) -> None:
    told = refusal(dataclasses.replace(credentials, key=key), errors.AuthenticationError)

    assert "none of Ceph's keys" in told


def test_monitors_that_do_not_answer_are_called_so(credentials: api.Credentials) -> None:
    told = refusal(dataclasses.replace(credentials, monitors=("127.0.0.1:1",)), errors.ClusterUnreachableError)

    assert "no monitor of cluster test answers" in told


def test_a_monitor_that_is_stopped_is_not_waited_for(
    cluster: ceph_harness.CephCluster, credentials: api.Credentials
) -> None:
    with cluster.frozen("mon.a"):
        refusal(credentials, errors.ClusterUnreachableError)

    assert librbd.LibradosCluster(credentials, QUICK).pools()


def test_monitors_that_have_no_address_are_called_so(credentials: api.Credentials) -> None:
    told = refusal(dataclasses.replace(credentials, monitors=("[[[",)), errors.ClusterUnreachableError)

    assert "cannot be found" in told


# --- stopped daemons


def _ends(calls: Mapping[str, Callable[[], object]]) -> dict[str, BaseException | None]:
    """Make all calls at once; how each ended. Fails where one does not end in time."""
    with futures.ThreadPoolExecutor(len(calls)) as pool:
        started = time.monotonic()
        made = {name: pool.submit(call) for name, call in calls.items()}
        ended = {name: future.exception(10 * PATIENCE) for name, future in made.items()}
        took = time.monotonic() - started
    assert took < PATIENCE, f"{took:.1f} s"
    return ended


def test_every_call_ends_in_time_while_the_osds_are_stopped_and_works_again_afterwards(
    cluster: ceph_harness.CephCluster, connected: api.Cluster, images: api.Images
) -> None:
    image_id = images.create("one", SIZE)
    images.create_snapshot("one", "s")
    trashed = images.create("old", SIZE)
    images.trash_move("old", delay_seconds=0)
    owner = api.LockOwner("10.0.0.1:0/1", "client.1", "auto 1")
    calls: Mapping[str, Callable[[], object]] = {
        "create": lambda: images.create("two", SIZE),
        "clone": lambda: images.clone(api.SnapshotRef(PLACE, "one", "s"), "three"),
        "list": images.list,
        "find": lambda: images.find("one"),
        "inspect": lambda: images.inspect("one"),
        "exists": lambda: images.exists("one"),
        "metadata": lambda: images.metadata(image_id),
        "set_metadata": lambda: images.set_metadata(image_id, {"a": "1"}),
        "remove_metadata": lambda: images.remove_metadata(image_id, ["a"]),
        "resize": lambda: images.resize("one", 2 * SIZE),
        "remove": lambda: images.remove("one"),
        "flatten": lambda: images.flatten("one"),
        "watchers": lambda: images.watchers("one"),
        "lock_owner": lambda: images.lock_owner("one"),
        "break_lock": lambda: images.break_lock("one", owner),
        "create_snapshot": lambda: images.create_snapshot("one", "t"),
        "snapshots": lambda: images.snapshots("one"),
        "remove_snapshot": lambda: images.remove_snapshot("one", "s"),
        "children": lambda: images.children("one", "s"),
        "trash_move": lambda: images.trash_move("one", delay_seconds=0),
        "trash_list": images.trash_list,
        "trash_restore": lambda: images.trash_restore(trashed, "old"),
        "trash_remove": lambda: images.trash_remove(trashed),
        "lock": lambda: images.lock("item", cookie="a", seconds=60),
        "unlock": lambda: images.unlock("item", cookie="a"),
        "namespaces": lambda: connected.namespaces(PLACE.pool),
    }

    with cluster.frozen(*OSDS):
        ended = _ends(calls)

    wrong = {name: error for name, error in ended.items() if not isinstance(error, errors.TimedOutError)}
    assert wrong == {}
    # What the stopped OSDs had received is carried out now: how each call ended is known by looking again alone.
    process.wait_until(lambda: _is_answered(images), seconds=PATIENCE, what="the OSDs")
    for name in ("one", "two", "three"):
        if not images.exists(name):
            images.create(name, SIZE)
    assert set(names(images)) >= {"one", "two", "three"}
    assert connected.is_usable()


def _is_answered(images: api.Images) -> bool:
    try:
        images.list()
    except errors.TimedOutError:
        return False
    return True


def test_every_question_to_a_stopped_monitor_ends_in_time_and_images_are_made_all_the_same(
    cluster: ceph_harness.CephCluster, connected: api.Cluster, images: api.Images
) -> None:
    images.create("one", SIZE)
    calls: Mapping[str, Callable[[], object]] = {
        "pools": connected.pools,
        "unknown pool": lambda: connected.pool_id("nowhere"),
        "unknown number": lambda: connected.pool_name(4711),
        "unknown place": lambda: connected.images(api.Place("nowhere")),
        "unknown data pool": lambda: images.create("three", SIZE, layout=api.Layout(data_pool="nowhere")),
        "stats": lambda: connected.stats(PLACE.pool),
        "fence": lambda: connected.fence("10.0.0.1:0/1", seconds=60),
        "fenced": connected.fenced,
        "create_snapshot": lambda: images.create_snapshot("one", "s"),
    }

    with cluster.frozen("mon.a"):
        ended = _ends(calls)
        images.create("two", SIZE)
        assert connected.pool_id(PLACE.pool) > 0

    wrong = {name: error for name, error in ended.items() if not isinstance(error, errors.TimedOutError)}
    assert wrong == {}
    assert PLACE.pool in connected.pools()
    assert names(images) == ["one", "two"]


# --- a full pool


def test_a_full_pool_refuses_at_once_and_what_is_removed_there_is_really_gone(
    cluster: ceph_harness.CephCluster, connected: api.Cluster, images: api.Images
) -> None:
    ids = {name: images.create(name, SIZE) for name in ("one", "two", "three", "four")}
    images.trash_move("four", delay_seconds=0)
    images.create_snapshot("one", "before")
    cluster.set_quota(PLACE.pool, max_objects=1, max_bytes=1)
    cluster.wait_full(PLACE.pool)
    try:
        started = time.monotonic()
        with pytest.raises(errors.QuotaExceededError):
            images.create("five", SIZE)
        with pytest.raises(errors.QuotaExceededError):
            images.clone(api.SnapshotRef(PLACE, "one", "before"), "six")
        with pytest.raises(errors.QuotaExceededError):
            images.lock("work", cookie="a", seconds=60)
        # Whatever needs no new object is done.
        images.set_metadata(ids["one"], {"a": "1"})
        images.resize("one", 2 * SIZE)
        images.create_snapshot("one", "s")
        assert time.monotonic() - started < PATIENCE
        assert connected.stats(PLACE.pool).quota == 1
        removals: Mapping[str, Callable[[], None]] = {
            "two": lambda: images.remove("two"),
            "three": lambda: images.trash_move("three", delay_seconds=0),
        }
        for name, remove in removals.items():
            try:
                remove()
            except errors.QuotaExceededError:
                assert images.exists(name)
            else:
                assert not images.exists(name)
        try:
            images.trash_remove(ids["four"])
        except errors.QuotaExceededError:
            assert ids["four"] in [entry.id for entry in images.trash_list()]
        else:
            assert ids["four"] not in [entry.id for entry in images.trash_list()]
    finally:
        cluster.set_quota(PLACE.pool)
        cluster.wait_full(PLACE.pool, full=False)

    assert {"five", "six"}.isdisjoint(names(images))
    images.create("five", SIZE)


# --- killed in the middle


def test_whatever_a_killed_client_leaves_is_found_or_made_anew(
    cluster: ceph_harness.CephCluster, credentials: api.Credentials, images: api.Images
) -> None:
    count, halves = 200, 0
    command = [sys.executable, str(_MAKER), credentials.monitors[0], PLACE.pool, str(count)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_MAKER.parents[2]
    ) as maker:
        assert maker.stdin is not None
        assert maker.stdout is not None
        maker.stdin.write(f"{credentials.key}\n")
        maker.stdin.close()
        assert maker.stdout.readline() == "begins\n"
        process.wait_until(lambda: len(images.list()) > 20, seconds=60, what="some images")
        maker.send_signal(signal.SIGKILL)

    left = names(images)
    assert 20 < len(left) < count
    for name in left:
        try:
            images.find(name)
        except errors.ImageIncompleteError:
            halves += 1
            images.remove(name)
            images.create(name, SIZE)
        assert images.inspect(name).name == name
    assert names(images) == left


# --- fences, keys and moves


def test_a_fenced_client_writes_no_more_and_connects_anew(credentials: api.Credentials, images: api.Images) -> None:
    shared = connections.Connections(lambda given: librbd.LibradosCluster(given, QUICK))
    images.create("one", SIZE)
    fenced = shared.get(credentials)
    theirs = fenced.images(PLACE)
    address = _address_of(theirs, images)
    images_cluster = librbd.LibradosCluster(credentials, QUICK)

    images_cluster.fence(address, seconds=600)
    with pytest.raises(errors.BlocklistedError):
        _until_refused(theirs)

    assert address in images_cluster.fenced()
    assert not fenced.is_usable()
    assert names(shared.get(credentials).images(PLACE)) == ["one"]


def _address_of(theirs: api.Images, ours: api.Images) -> str:
    """The address of a connection, as a watcher of it shows."""
    image = theirs._loaded.rbd.Image(theirs.ioctx, "one")  # type: ignore[attr-defined]
    try:
        (watcher,) = ours.watchers("one")
    finally:
        image.close()
    return watcher.address


def _until_refused(images: api.Images) -> None:
    """Write until the OSDs have heard of the fence."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        images.lock("item", cookie="a", seconds=1)


def test_a_rotated_key_is_taken_over_and_the_old_one_refused(
    cluster: ceph_harness.CephCluster, credentials: api.Credentials, images: api.Images
) -> None:
    shared = connections.Connections(lambda given: librbd.LibradosCluster(given, QUICK))
    images.create("one", SIZE)
    before = shared.get(credentials)

    rotated = dataclasses.replace(credentials, key=cluster.rotate_key())

    assert names(before.images(PLACE)) == ["one"]
    after = shared.get(rotated)
    assert after is not before
    assert names(after.images(PLACE)) == ["one"]
    with pytest.raises(errors.AuthenticationError):
        shared.get(credentials)


def test_a_moved_monitor_is_followed(
    cluster: ceph_harness.CephCluster, credentials: api.Credentials, images: api.Images
) -> None:
    shared = connections.Connections(lambda given: librbd.LibradosCluster(given, QUICK))
    images.create("one", SIZE)
    shared.get(credentials)

    cluster.move_monitor()
    moved = dataclasses.replace(credentials, monitors=cluster.monitors)

    assert names(shared.get(moved).images(PLACE)) == ["one"]


def test_a_replaced_connection_ends_when_the_last_call_lets_go_of_it(
    cluster: ceph_harness.CephCluster, credentials: api.Credentials, images: api.Images
) -> None:
    shared = connections.Connections(lambda given: librbd.LibradosCluster(given, QUICK))
    used = shared.get(credentials).images(PLACE)
    gc.collect()
    before = _threads()

    shared.get(dataclasses.replace(credentials, monitors=(*credentials.monitors, "127.0.0.1:1")))
    assert names(used) == []
    assert _threads() > before
    del used

    assert _threads() == before


def _threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


# --- erasure coding


def test_an_images_data_can_be_in_an_erasure_coded_pool(cluster: ceph_harness.CephCluster, images: api.Images) -> None:
    cluster.create_erasure_pool("data")
    layout = api.Layout(data_pool="data")
    images.create("one", SIZE, layout=layout)
    images.create_snapshot("one", "s")
    images.clone(api.SnapshotRef(PLACE, "one", "s"), "child", layout=layout)

    for name in ("one", "child"):
        found = images.inspect(name).layout
        assert found.data_pool == "data"
        assert found.features == api.DEFAULT_FEATURES | {"data-pool"}
    images.flatten("child")
