"""What every backend keeps that offers it: growth, snapshots, copies, publication, conditions."""

import datetime
from pathlib import Path

import pytest

from provisioner import errors, model
from tests.contract import featured
from tests.fakes.directory_pools import ROX, RWO, request

NOWHERE = model.VolumeId("no-such-volume")
NOTHING = model.SnapshotId("no-such-snapshot")


@pytest.fixture(params=[*featured.STORAGES, "ceph"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> featured.Storage:
    if request.param == "ceph":
        return featured.ceph(request, tmp_path)
    return featured.STORAGES[request.param](tmp_path)


def of(source: model.Volume, name: str = "snapshot-1") -> model.SnapshotRequest:
    return model.SnapshotRequest(name=name, source=source.id)


def test_the_features_are_announced(storage: featured.Storage) -> None:
    features = storage.backend.features
    assert features.expansion
    assert features.snapshots
    assert features.clones
    assert features.publication
    assert features.condition


def test_a_volume_grows_to_what_is_required_and_keeps_what_it_holds(storage: featured.Storage) -> None:
    made = storage.create(request())
    storage.write(made.id, "before")

    grown = storage.backend.expand(made.id, model.SizeRange(3 * model.MIB))

    assert (grown.id, grown.size) == (made.id, 3 * model.MIB)
    assert storage.again.get(made.id) == grown
    assert storage.read(made.id) == "before"


def test_a_volume_that_is_large_enough_is_left_as_it_is(storage: featured.Storage) -> None:
    made = storage.create(request(size=3 * model.MIB))
    for size in (model.SizeRange(3 * model.MIB), model.SizeRange(model.MIB), model.SizeRange(1, 4 * model.MIB)):
        assert storage.backend.expand(made.id, size) == made


def test_a_volume_never_shrinks(storage: featured.Storage) -> None:
    made = storage.create(request(size=3 * model.MIB))
    with pytest.raises(errors.SizeOutOfRangeError):
        storage.backend.expand(made.id, model.SizeRange(0, 2 * model.MIB))
    assert storage.backend.get(made.id) == made


def test_a_volume_does_not_grow_beyond_the_room(storage: featured.Storage) -> None:
    made = storage.create(request())
    with pytest.raises((errors.SizeOutOfRangeError, errors.InsufficientCapacityError)):
        storage.backend.expand(made.id, model.SizeRange(1 << 62))
    assert storage.backend.get(made.id) == made


def test_a_volume_that_has_grown_is_found_by_the_call_that_made_it(storage: featured.Storage) -> None:
    made = storage.create(request())
    grown = storage.backend.expand(made.id, model.SizeRange(2 * model.MIB))
    assert storage.create(request(size=0)) == grown


def test_what_does_not_exist_does_not_grow(storage: featured.Storage) -> None:
    with pytest.raises(errors.VolumeNotFoundError):
        storage.backend.expand(NOWHERE, model.SizeRange(model.MIB))


def test_a_snapshot_is_found_as_it_was_taken(storage: featured.Storage) -> None:
    source = storage.create(request(size=2 * model.MIB))
    before = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=5)

    taken = storage.backend.create_snapshot(of(source))

    assert (taken.source, taken.size, taken.ready) == (source.id, 2 * model.MIB, True)
    assert before <= taken.created <= datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=5)
    assert storage.again.get_snapshot(taken.id) == taken


def test_a_snapshot_that_is_taken_again_is_the_same(storage: featured.Storage) -> None:
    source = storage.create(request())
    taken = storage.backend.create_snapshot(of(source))
    assert storage.again.create_snapshot(of(source)) == taken
    assert [*storage.backend.list_snapshots(source=None, after=None, limit=10)] == [taken]


def test_a_snapshot_name_of_another_volume_is_refused(storage: featured.Storage) -> None:
    first, second = storage.create(request("a")), storage.create(request("b"))
    taken = storage.backend.create_snapshot(of(first))
    with pytest.raises(errors.SnapshotExistsError):
        storage.backend.create_snapshot(of(second))
    assert [*storage.backend.list_snapshots(source=None, after=None, limit=10)] == [taken]


@pytest.mark.parametrize("name", ["größe-🗄", "../../etc", "a/b@c", "x" * 10_000, "-", "a\nb"])
def test_any_name_makes_a_snapshot_with_a_well_formed_id(storage: featured.Storage, name: str) -> None:
    taken = storage.backend.create_snapshot(of(storage.create(request()), name))
    assert model.SnapshotId.parse(taken.id.value) == taken.id
    assert storage.backend.get_snapshot(taken.id) == taken


def test_there_is_no_snapshot_of_what_does_not_exist(storage: featured.Storage) -> None:
    with pytest.raises(errors.VolumeNotFoundError):
        storage.backend.create_snapshot(model.SnapshotRequest(name="s", source=NOWHERE))


def test_a_snapshot_that_does_not_exist_is_not_found(storage: featured.Storage) -> None:
    with pytest.raises(errors.SnapshotNotFoundError):
        storage.backend.get_snapshot(NOTHING)


def test_a_deleted_snapshot_is_gone_also_when_it_is_deleted_twice(storage: featured.Storage) -> None:
    taken = storage.backend.create_snapshot(of(storage.create(request())))
    storage.backend.delete_snapshot(taken.id)
    storage.backend.delete_snapshot(taken.id)
    with pytest.raises(errors.SnapshotNotFoundError):
        storage.again.get_snapshot(taken.id)
    assert [*storage.backend.list_snapshots(source=None, after=None, limit=10)] == []


def test_deleting_a_snapshot_that_never_was_is_no_error(storage: featured.Storage) -> None:
    storage.backend.delete_snapshot(NOTHING)


def test_a_snapshot_name_that_was_deleted_is_a_new_snapshot(storage: featured.Storage) -> None:
    source = storage.create(request())
    storage.write(source.id, "first")
    storage.backend.delete_snapshot(storage.backend.create_snapshot(of(source)).id)
    storage.write(source.id, "second")

    again = storage.backend.create_snapshot(of(source))

    assert storage.read(storage.create(request("restored", source=again.id)).id) == "second"


def test_pages_hold_each_snapshot_once_in_order(storage: featured.Storage) -> None:
    source = storage.create(request())
    taken = {storage.backend.create_snapshot(of(source, f"snapshot-{number}")).id for number in range(5)}
    seen: list[model.SnapshotId] = []
    page = storage.backend.list_snapshots(source=None, after=None, limit=2)
    while page:
        seen.extend(snapshot.id for snapshot in page)
        page = storage.backend.list_snapshots(source=None, after=seen[-1], limit=2)
    assert seen == sorted(taken)


def test_a_listing_can_be_of_one_volume(storage: featured.Storage) -> None:
    first, second = storage.create(request("a")), storage.create(request("b"))
    of_first, of_second = (storage.backend.create_snapshot(of(first, "a")), storage.backend.create_snapshot(of(second)))
    found = [storage.backend.list_snapshots(source=key, after=None, limit=10) for key in (first.id, second.id, NOWHERE)]
    assert [[*page] for page in found] == [[of_first], [of_second], []]


def test_a_restored_volume_holds_what_the_source_held_then(storage: featured.Storage) -> None:
    source = storage.create(request())
    storage.write(source.id, "then")
    taken = storage.backend.create_snapshot(of(source))
    storage.write(source.id, "now")

    restored = storage.create(request("restored", source=taken.id))

    assert (restored.size, restored.source) == (source.size, taken.id)
    assert (storage.read(restored.id), storage.read(source.id)) == ("then", "now")
    assert storage.again.get(restored.id) == restored


def test_a_clone_holds_what_its_source_holds_and_goes_its_own_way(storage: featured.Storage) -> None:
    source = storage.create(request())
    storage.write(source.id, "common")

    clone = storage.create(request("clone", source=source.id))

    assert (clone.size, clone.source) == (source.size, source.id)
    assert storage.read(clone.id) == "common"
    storage.write(clone.id, "own")
    assert storage.read(source.id) == "common"


def test_a_copy_may_be_larger_than_its_source(storage: featured.Storage) -> None:
    source = storage.create(request())
    taken = storage.backend.create_snapshot(of(source))
    assert storage.create(request("restored", size=3 * model.MIB, source=taken.id)).size == 3 * model.MIB
    assert storage.create(request("clone", size=2 * model.MIB, source=source.id)).size == 2 * model.MIB


def test_a_copy_is_never_smaller_than_its_source(storage: featured.Storage) -> None:
    source = storage.create(request(size=3 * model.MIB))
    taken = storage.backend.create_snapshot(of(source))
    for key in (source.id, taken.id):
        with pytest.raises(errors.SizeOutOfRangeError):
            storage.create(request("copy", size=model.MIB, limit=2 * model.MIB, source=key))
    assert [*storage.backend.list(after=None, limit=10)] == [source]


def test_a_copy_without_a_size_is_as_large_as_its_source(storage: featured.Storage) -> None:
    source = storage.create(request(size=3 * model.MIB))
    assert storage.create(request("copy", size=0, limit=3 * model.MIB, source=source.id)).size == source.size


def test_a_repeated_call_finds_the_same_copy(storage: featured.Storage) -> None:
    source = storage.create(request())
    taken = storage.backend.create_snapshot(of(source))
    for name, key in (("clone", source.id), ("restored", taken.id)):
        made = storage.create(request(name, source=key))
        assert storage.again.create(storage.of_class(request(name, source=key))) == made
    assert len(storage.backend.list(after=None, limit=10)) == 3


def test_the_same_name_from_another_source_is_refused(storage: featured.Storage) -> None:
    first, second = storage.create(request("a")), storage.create(request("b"))
    copy = storage.create(request("copy", source=first.id))
    for other in (second.id, None):
        with pytest.raises(errors.VolumeExistsError):
            storage.create(request("copy", source=other))
    assert storage.backend.get(copy.id) == copy


def test_a_copy_of_what_does_not_exist_is_not_found(storage: featured.Storage) -> None:
    with pytest.raises(errors.VolumeNotFoundError):
        storage.create(request("copy", source=NOWHERE))
    with pytest.raises(errors.SnapshotNotFoundError):
        storage.create(request("copy", source=NOTHING))
    assert [*storage.backend.list(after=None, limit=10)] == []


def test_copies_stay_usable_when_what_they_were_made_from_is_deleted(storage: featured.Storage) -> None:
    source = storage.create(request())
    storage.write(source.id, "text")
    taken = storage.backend.create_snapshot(of(source))
    restored = storage.create(request("restored", source=taken.id))
    clone = storage.create(request("clone", source=source.id))

    storage.backend.delete_snapshot(taken.id)
    storage.backend.delete(source.id)

    assert (storage.read(restored.id), storage.read(clone.id)) == ("text", "text")
    assert storage.backend.create_snapshot(of(clone, "of-clone")).source == clone.id
    assert {volume.id for volume in storage.again.list(after=None, limit=10)} == {restored.id, clone.id}


def test_a_volume_is_published_to_one_node_at_a_time(storage: featured.Storage) -> None:
    made = storage.create(request())
    first = storage.backend.publish(made.id, "node-1", RWO, read_only=False)
    assert storage.again.publish(made.id, "node-1", RWO, read_only=False) == first
    with pytest.raises(errors.VolumeInUseError, match="node-1"):
        storage.again.publish(made.id, "node-2", RWO, read_only=False)

    storage.backend.unpublish(made.id, "node-1")
    storage.backend.unpublish(made.id, "node-1")

    storage.again.publish(made.id, "node-2", RWO, read_only=False)


def test_a_publication_for_another_use_is_refused(storage: featured.Storage) -> None:
    made = storage.create(request())
    storage.backend.publish(made.id, "node-1", RWO, read_only=False)
    with pytest.raises(errors.VolumeExistsError):
        storage.backend.publish(made.id, "node-1", RWO, read_only=True)


def test_a_volume_is_taken_from_every_node_where_none_is_named(storage: featured.Storage) -> None:
    made = storage.create(request())
    storage.backend.publish(made.id, "node-1", RWO, read_only=False)
    storage.backend.unpublish(made.id, "")
    storage.backend.publish(made.id, "node-2", RWO, read_only=False)


def test_readers_of_a_snapshot_s_copy_are_on_several_nodes(storage: featured.Storage) -> None:
    source = storage.create(request())
    taken = storage.backend.create_snapshot(of(source))
    shared = storage.create(request("shared", source=taken.id, capabilities=(ROX,)))
    for node in ("node-1", "node-2"):
        storage.backend.publish(shared.id, node, ROX, read_only=True)


def test_a_volume_that_does_not_exist_is_not_published_and_taken_back_without_complaint(
    storage: featured.Storage,
) -> None:
    with pytest.raises(errors.VolumeNotFoundError):
        storage.backend.publish(NOWHERE, "node-1", RWO, read_only=False)
    storage.backend.unpublish(NOWHERE, "node-1")


def test_a_volume_in_working_order_says_so(storage: featured.Storage) -> None:
    made = storage.create(request())
    assert not storage.backend.condition(made.id).abnormal
    with pytest.raises(errors.VolumeNotFoundError):
        storage.backend.condition(NOWHERE)
