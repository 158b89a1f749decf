"""What every backend keeps: one test for each sentence of `provisioner.backends.base`."""

import threading
from concurrent import futures

import pytest

from provisioner import errors, model
from tests.contract import conftest
from tests.fakes.directory_pools import NODE, RWO, RWOP, TOPOLOGY_KEY, request

BLOCK = model.Capability(access_mode=model.AccessMode.SINGLE_NODE_WRITER, access_type=model.AccessType.BLOCK)


def test_a_volume_is_found_as_it_was_made(storage: conftest.Storage) -> None:
    made = storage.backend.create(request(size=model.MIB + 1))
    assert made.size == model.MIB + 1
    assert storage.backend.get(made.id) == made


def test_a_volume_is_found_by_another_process(storage: conftest.Storage) -> None:
    made = storage.backend.create(request())
    assert storage.again.get(made.id) == made
    assert storage.again.create(request()) == made


def test_a_repeated_call_finds_the_same_volume(storage: conftest.Storage) -> None:
    made = storage.backend.create(request())
    assert storage.backend.create(request()) == made
    assert len(storage.backend.list(after=None, limit=10)) == 1


def test_calls_at_once_for_one_name_make_one_volume(storage: conftest.Storage) -> None:
    def make(_: int) -> model.Volume:
        while True:
            try:
                return storage.backend.create(request())
            except errors.OperationPendingError:
                continue

    with futures.ThreadPoolExecutor(4) as pool:
        made = set(pool.map(lambda i: make(i).id, range(8)))
    assert len(made) == 1
    assert [volume.id for volume in storage.backend.list(after=None, limit=10)] == [*made]


def test_another_name_is_another_volume(storage: conftest.Storage) -> None:
    assert storage.backend.create(request("a")).id != storage.backend.create(request("b")).id


@pytest.mark.parametrize("name", ["größe-🗄", "../../etc", "a/b", "x" * 10_000, "-", "a\nb"])
def test_any_name_makes_a_volume_with_a_well_formed_id(storage: conftest.Storage, name: str) -> None:
    made = storage.backend.create(request(name))
    assert model.VolumeId.parse(made.id.value) == made.id
    assert storage.backend.get(made.id) == made


def test_the_size_that_is_required_is_what_is_promised_to_the_byte(storage: conftest.Storage) -> None:
    assert storage.backend.create(request(size=1_000_003)).size == 1_000_003


def test_the_limit_is_never_passed(storage: conftest.Storage) -> None:
    assert storage.backend.create(request(size=0, limit=5)).size == 5


@pytest.mark.parametrize(
    "changed",
    [
        request(size=2 * model.MIB),
        request(size=1, limit=2),
        request(capabilities=(RWOP,)),
        request(parameters={"enforcement": "none"}),
    ],
    ids=["larger", "smaller", "mode", "parameters"],
)
def test_the_same_name_with_other_properties_is_refused(
    storage: conftest.Storage, changed: model.VolumeRequest
) -> None:
    made = storage.backend.create(request())
    with pytest.raises(errors.VolumeExistsError):
        storage.backend.create(changed)
    assert storage.backend.get(made.id) == made


def test_a_range_that_the_existing_size_lies_in_finds_it(storage: conftest.Storage) -> None:
    made = storage.backend.create(request(size=model.MIB))
    assert storage.backend.create(request(size=1, limit=model.MIB)) == made
    assert storage.backend.create(request(size=0)) == made


def test_the_claims_metadata_may_differ_between_calls(storage: conftest.Storage) -> None:
    made = storage.backend.create(request(parameters={"csi.storage.k8s.io/pvc/name": "a"}))
    assert storage.backend.create(request(parameters={"csi.storage.k8s.io/pvc/name": "b"})) == made


def test_a_size_that_can_never_be_on_this_node_is_a_lack_of_room_as_another_may_have_it(
    storage: conftest.Storage,
) -> None:
    with pytest.raises(errors.InsufficientCapacityError):
        storage.backend.create(request(size=conftest.TOTAL * 10))
    assert [*storage.backend.list(after=None, limit=10)] == []


def test_a_size_that_cannot_be_now_is_a_lack_of_room(storage: conftest.Storage) -> None:
    storage.backend.create(request("first", size=8 * model.MIB))
    with pytest.raises(errors.InsufficientCapacityError):
        storage.backend.create(request("second", size=8 * model.MIB))
    assert storage.backend.create(request("third", size=model.MIB)).size == model.MIB


def test_promises_by_calls_at_once_never_exceed_the_room(storage: conftest.Storage) -> None:
    start = threading.Barrier(8)

    def make(number: int) -> int:
        start.wait(10)
        backend = storage.backend if number % 2 else storage.again
        try:
            return backend.create(request(f"pvc-{number}", size=3 * model.MIB)).size
        except errors.InsufficientCapacityError:
            return 0

    with futures.ThreadPoolExecutor(8) as pool:
        promised = sum(pool.map(make, range(8)))
    assert 2 * 3 * model.MIB <= promised <= conftest.TOTAL


def test_a_block_volume_is_refused(storage: conftest.Storage) -> None:
    with pytest.raises(errors.InvalidRequestError):
        storage.backend.create(request(capabilities=(BLOCK,)))


@pytest.mark.parametrize("mode", [mode for mode in model.AccessMode if mode.spans_nodes])
def test_a_mode_that_spans_nodes_is_refused_by_a_node_s_own_storage(
    storage: conftest.Storage, mode: model.AccessMode
) -> None:
    with pytest.raises(errors.InvalidRequestError):
        storage.backend.create(request(capabilities=(RWO, model.Capability(access_mode=mode))))


@pytest.mark.parametrize("mode", [mode for mode in model.AccessMode if not mode.spans_nodes])
def test_a_mode_of_one_node_is_served(storage: conftest.Storage, mode: model.AccessMode) -> None:
    storage.backend.create(request(capabilities=(model.Capability(access_mode=mode),)))


def test_an_unknown_parameter_is_refused_by_name(storage: conftest.Storage) -> None:
    with pytest.raises(errors.InvalidParameterError, match="colour"):
        storage.backend.create(request(parameters={"colour": "blue"}))


def test_a_volume_tells_from_where_it_is_reachable(storage: conftest.Storage) -> None:
    here = model.Topology.of({TOPOLOGY_KEY: NODE})
    assert storage.backend.create(request()).topologies == (here,)
    assert storage.backend.topology() == here


def test_a_volume_that_must_be_elsewhere_is_not_made_here(storage: conftest.Storage) -> None:
    elsewhere = model.Accessibility(requisite=(model.Topology.of({TOPOLOGY_KEY: "node-2"}),))
    with pytest.raises(errors.InsufficientCapacityError):
        storage.backend.create(request(accessibility=elsewhere))


def test_a_volume_that_may_be_here_is_made_here(storage: conftest.Storage) -> None:
    places = (model.Topology.of({TOPOLOGY_KEY: "node-2"}), model.Topology.of({TOPOLOGY_KEY: NODE}))
    storage.backend.create(request(accessibility=model.Accessibility(requisite=places)))


def test_a_deleted_volume_is_gone(storage: conftest.Storage) -> None:
    made = storage.backend.create(request())
    storage.backend.delete(made.id)
    with pytest.raises(errors.VolumeNotFoundError):
        storage.backend.get(made.id)
    assert [*storage.again.list(after=None, limit=10)] == []


@pytest.mark.parametrize("volume_id", ["no-such-volume", "d1-0", "mem-00", "x" * 127])
def test_deleting_what_does_not_exist_is_no_error(storage: conftest.Storage, volume_id: str) -> None:
    storage.backend.delete(model.VolumeId(volume_id))


def test_deleting_twice_is_no_error(storage: conftest.Storage) -> None:
    made = storage.backend.create(request())
    storage.backend.delete(made.id)
    storage.backend.delete(made.id)


def test_a_name_that_was_deleted_makes_an_empty_volume(storage: conftest.Storage) -> None:
    first = storage.backend.create(request())
    (storage.backend.locate(first.id) / "secret").write_text("of the one before")
    storage.backend.delete(first.id)
    second = storage.backend.create(request(size=2 * model.MIB))
    assert second.size == 2 * model.MIB
    assert [*storage.backend.locate(second.id).iterdir()] == []


def test_a_volume_in_use_is_not_deleted(storage: conftest.Storage) -> None:
    made = storage.backend.create(request())
    storage.use(made.id)
    with pytest.raises(errors.VolumeInUseError):
        storage.backend.delete(made.id)
    assert storage.backend.get(made.id) == made


@pytest.mark.parametrize("volume_id", ["no-such-volume", "d1-0123456789abcdef-" + "0" * 32, ".", "a"])
def test_a_volume_that_does_not_exist_is_not_found(storage: conftest.Storage, volume_id: str) -> None:
    for look in (storage.backend.get, storage.backend.locate, storage.backend.usage):
        with pytest.raises(errors.VolumeNotFoundError):
            look(model.VolumeId(volume_id))
    with pytest.raises(errors.VolumeNotFoundError):
        storage.backend.validate(model.VolumeId(volume_id), (RWO,), {})


def test_a_quarantined_volume_is_named_and_the_others_work(storage: conftest.Storage) -> None:
    good, bad = storage.backend.create(request("good")), storage.backend.create(request("bad"))
    storage.quarantine(bad.id)
    with pytest.raises(errors.VolumeQuarantinedError, match=str(bad.id)):
        storage.backend.get(bad.id)
    assert [*storage.backend.list(after=None, limit=10)] == [good]
    assert storage.backend.create(request("good")) == good
    assert storage.backend.create(request("new")).size == model.MIB


def test_pages_hold_each_volume_once_in_order(storage: conftest.Storage) -> None:
    made = {storage.backend.create(request(f"pvc-{number}", size=1024)).id for number in range(7)}
    seen: list[model.VolumeId] = []
    page = storage.backend.list(after=None, limit=3)
    while page:
        seen.extend(volume.id for volume in page)
        page = storage.backend.list(after=seen[-1], limit=3)
    assert seen == sorted(made)


def test_a_page_that_is_not_full_is_the_last(storage: conftest.Storage) -> None:
    for number in range(3):
        storage.backend.create(request(f"pvc-{number}"))
    assert len(storage.backend.list(after=None, limit=2)) == 2
    assert len(storage.backend.list(after=None, limit=4)) == 3


def test_a_listing_goes_on_behind_a_volume_that_is_gone(storage: conftest.Storage) -> None:
    made = sorted(storage.backend.create(request(f"pvc-{number}")).id for number in range(3))
    storage.backend.delete(made[1])
    assert [volume.id for volume in storage.backend.list(after=made[1], limit=10)] == [made[2]]


def test_a_use_that_can_be_had_is_confirmed(storage: conftest.Storage) -> None:
    made = storage.backend.create(request())
    assert storage.backend.validate(made.id, (RWO, RWOP), {}) is None


def test_a_use_that_cannot_be_had_is_explained(storage: conftest.Storage) -> None:
    made = storage.backend.create(request())
    assert "block" in str(storage.backend.validate(made.id, (RWO, BLOCK), {}))
    assert "parameters" in str(storage.backend.validate(made.id, (RWO,), {"enforcement": "none"}))


def _room(storage: conftest.Storage, **changed: object) -> model.Available:
    asked: dict[str, object] = {"capabilities": (RWO,), "parameters": {}, "topology": None, **changed}
    return storage.backend.capacity(**asked)  # type: ignore[arg-type]


def test_the_room_shrinks_by_what_is_promised(storage: conftest.Storage) -> None:
    before = _room(storage)
    storage.backend.create(request(size=3 * model.MIB))
    # A real storage needs a few blocks for its own records besides.
    assert abs(before.total - _room(storage).total - 3 * model.MIB) <= 64 * model.KIB


def test_the_largest_volume_that_is_told_can_be_made(storage: conftest.Storage) -> None:
    largest = _room(storage).largest
    assert storage.backend.create(request(size=largest)).size == largest


def test_there_is_no_room_elsewhere_nor_for_what_is_refused(storage: conftest.Storage) -> None:
    assert _room(storage, topology=model.Topology.of({TOPOLOGY_KEY: "node-2"})).total == 0
    assert _room(storage, capabilities=(BLOCK,)).total == 0
    assert _room(storage, topology=model.Topology.of({TOPOLOGY_KEY: NODE})).total > 0


def test_the_room_for_an_unknown_parameter_is_an_error(storage: conftest.Storage) -> None:
    with pytest.raises(errors.InvalidParameterError):
        _room(storage, parameters={"colour": "blue"})


def test_a_working_storage_passes_its_probe(storage: conftest.Storage) -> None:
    storage.backend.probe()


def test_the_directory_of_a_volume_takes_files(storage: conftest.Storage) -> None:
    made = storage.backend.create(request())
    (storage.backend.locate(made.id) / "file").write_text("content")
    assert (storage.again.locate(made.id) / "file").read_text() == "content"


def test_usage_is_told_against_the_volume_s_own_size(storage: conftest.Storage) -> None:
    made = storage.backend.create(request(size=2 * model.MIB))
    usage = storage.backend.usage(made.id)
    assert usage.total == 2 * model.MIB
    assert usage.used + usage.available == usage.total


def test_features_say_what_the_volumes_keep(storage: conftest.Storage) -> None:
    assert storage.backend.features.topology is (storage.backend.topology() is not None)
    assert storage.backend.features.capacity
