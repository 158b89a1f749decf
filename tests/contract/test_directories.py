"""What the backends keep whose volumes are directories of one node, and whose room is what was not yet promised."""

import threading
from concurrent import futures

import pytest

from provisioner import errors, model
from tests.contract import conftest
from tests.fakes.directory_pools import NODE, RWO, TOPOLOGY_KEY, request

BLOCK = model.Capability(access_mode=model.AccessMode.SINGLE_NODE_WRITER, access_type=model.AccessType.BLOCK)


def test_the_size_that_is_required_is_what_is_promised_to_the_byte(directories: conftest.Directories) -> None:
    assert directories.backend.create(request(size=1_000_003)).size == 1_000_003


def test_the_limit_is_never_passed(directories: conftest.Directories) -> None:
    assert directories.backend.create(request(size=0, limit=5)).size == 5


def test_a_size_that_can_never_be_on_this_node_is_a_lack_of_room_as_another_may_have_it(
    directories: conftest.Directories,
) -> None:
    with pytest.raises(errors.InsufficientCapacityError):
        directories.backend.create(request(size=conftest.TOTAL * 10))
    assert [*directories.backend.list(after=None, limit=10)] == []


def test_a_size_that_cannot_be_now_is_a_lack_of_room(directories: conftest.Directories) -> None:
    directories.backend.create(request("first", size=8 * model.MIB))
    with pytest.raises(errors.InsufficientCapacityError):
        directories.backend.create(request("second", size=8 * model.MIB))
    assert directories.backend.create(request("third", size=model.MIB)).size == model.MIB


def test_promises_by_calls_at_once_never_exceed_the_room(directories: conftest.Directories) -> None:
    start = threading.Barrier(8)

    def make(number: int) -> int:
        start.wait(10)
        backend = directories.backend if number % 2 else directories.again
        try:
            return backend.create(request(f"pvc-{number}", size=3 * model.MIB)).size
        except errors.InsufficientCapacityError:
            return 0

    with futures.ThreadPoolExecutor(8) as pool:
        promised = sum(pool.map(make, range(8)))
    assert 2 * 3 * model.MIB <= promised <= conftest.TOTAL


def test_a_block_volume_is_refused(directories: conftest.Directories) -> None:
    with pytest.raises(errors.InvalidRequestError):
        directories.backend.create(request(capabilities=(BLOCK,)))


@pytest.mark.parametrize("mode", [mode for mode in model.AccessMode if mode.spans_nodes])
def test_a_mode_that_spans_nodes_is_refused_by_a_node_s_own_storage(
    directories: conftest.Directories, mode: model.AccessMode
) -> None:
    with pytest.raises(errors.InvalidRequestError):
        directories.backend.create(request(capabilities=(RWO, model.Capability(access_mode=mode))))


@pytest.mark.parametrize("mode", [mode for mode in model.AccessMode if not mode.spans_nodes])
def test_a_mode_of_one_node_is_served(directories: conftest.Directories, mode: model.AccessMode) -> None:
    directories.backend.create(request(capabilities=(model.Capability(access_mode=mode),)))


def test_a_volume_tells_from_where_it_is_reachable(directories: conftest.Directories) -> None:
    here = model.Topology.of({TOPOLOGY_KEY: NODE})
    assert directories.backend.create(request()).topologies == (here,)
    assert directories.backend.topology() == here


def test_a_volume_that_must_be_elsewhere_is_not_made_here(directories: conftest.Directories) -> None:
    elsewhere = model.Accessibility(requisite=(model.Topology.of({TOPOLOGY_KEY: "node-2"}),))
    with pytest.raises(errors.InsufficientCapacityError):
        directories.backend.create(request(accessibility=elsewhere))


def test_a_volume_that_may_be_here_is_made_here(directories: conftest.Directories) -> None:
    places = (model.Topology.of({TOPOLOGY_KEY: "node-2"}), model.Topology.of({TOPOLOGY_KEY: NODE}))
    directories.backend.create(request(accessibility=model.Accessibility(requisite=places)))


def test_a_name_that_was_deleted_makes_an_empty_volume(directories: conftest.Directories) -> None:
    first = directories.backend.create(request())
    (directories.backend.locate(first.id) / "secret").write_text("of the one before")
    directories.backend.delete(first.id)
    second = directories.backend.create(request(size=2 * model.MIB))
    assert second.size == 2 * model.MIB
    assert [*directories.backend.locate(second.id).iterdir()] == []


def test_a_quarantined_volume_is_named_and_the_others_work(directories: conftest.Directories) -> None:
    good, bad = directories.backend.create(request("good")), directories.backend.create(request("bad"))
    directories.quarantine(bad.id)
    with pytest.raises(errors.VolumeQuarantinedError, match=str(bad.id)):
        directories.backend.get(bad.id)
    assert [*directories.backend.list(after=None, limit=10)] == [good]
    assert directories.backend.create(request("good")) == good
    assert directories.backend.create(request("new")).size == model.MIB


def _room(directories: conftest.Directories, **changed: object) -> model.Available:
    asked: dict[str, object] = {"capabilities": (RWO,), "parameters": {}, "topology": None, **changed}
    return directories.backend.capacity(**asked)  # type: ignore[arg-type]


def test_the_room_shrinks_by_what_is_promised(directories: conftest.Directories) -> None:
    before = _room(directories)
    directories.backend.create(request(size=3 * model.MIB))
    # A real storage needs a few blocks for its own records besides.
    assert abs(before.total - _room(directories).total - 3 * model.MIB) <= 64 * model.KIB


def test_the_largest_volume_that_is_told_can_be_made(directories: conftest.Directories) -> None:
    largest = _room(directories).largest
    assert directories.backend.create(request(size=largest)).size == largest


def test_there_is_no_room_elsewhere_nor_for_what_is_refused(directories: conftest.Directories) -> None:
    assert _room(directories, topology=model.Topology.of({TOPOLOGY_KEY: "node-2"})).total == 0
    assert _room(directories, capabilities=(BLOCK,)).total == 0
    assert _room(directories, topology=model.Topology.of({TOPOLOGY_KEY: NODE})).total > 0


def test_the_directory_of_a_volume_takes_files(directories: conftest.Directories) -> None:
    made = directories.backend.create(request())
    (directories.backend.locate(made.id) / "file").write_text("content")
    assert (directories.again.locate(made.id) / "file").read_text() == "content"


def test_usage_is_told_against_the_volume_s_own_size(directories: conftest.Directories) -> None:
    made = directories.backend.create(request(size=2 * model.MIB))
    usage = directories.backend.usage(made.id)
    assert usage.total == 2 * model.MIB
    assert usage.used + usage.available == usage.total


def test_features_say_what_the_volumes_keep(directories: conftest.Directories) -> None:
    assert directories.backend.features.topology is (directories.backend.topology() is not None)
    assert directories.backend.features.capacity


@pytest.mark.parametrize("volume_id", ["no-such-volume", "d1-0123456789abcdef-" + "0" * 32, ".", "a"])
def test_a_volume_that_does_not_exist_is_not_on_this_node(directories: conftest.Directories, volume_id: str) -> None:
    for look in (directories.backend.locate, directories.backend.usage):
        with pytest.raises(errors.VolumeNotFoundError):
            look(model.VolumeId(volume_id))


def test_a_use_as_block_device_is_explained(directories: conftest.Directories) -> None:
    made = directories.backend.create(request())
    assert "block" in str(directories.backend.validate(made.id, (RWO, BLOCK), {}))
