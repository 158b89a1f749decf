"""Pools: made only when told, refused when they are not what they should be, and used again once mended."""

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog

from provisioner import errors, metrics, model
from provisioner.backends.directory import backend as directory
from provisioner.backends.directory import marker, reserve
from tests.fakes import mounts
from tests.fakes.directory_pools import Clock, directory_backend, request
from tests.unit.backends.conftest import Pool


def test_a_pool_is_made_in_a_missing_directory(disk: Path) -> None:
    directory_backend(disk)
    assert (disk / "fast").stat().st_mode & 0o7777 == 0o700
    assert sorted(entry.name for entry in (disk / "fast").iterdir()) == [
        ".lock", ".pool.json", ".reserve", "staging", "trash", "volumes",
    ]  # fmt: skip


def test_a_pool_is_made_at_the_root_of_a_fresh_filesystem(disk: Path, tmp_path: Path) -> None:
    (disk / "fast").mkdir()
    mounts.mount_image(mounts.image(tmp_path / "image"), disk / "fast")
    made = directory_backend(disk)
    assert made.create(request()).size == model.MIB


def test_making_a_pool_that_exists_changes_nothing(pool: Pool) -> None:
    made = pool.backend.create(request())
    before = (pool.root / ".pool.json").read_bytes()
    pool.again().initialise()
    assert (pool.root / ".pool.json").read_bytes() == before
    assert pool.backend.get(made.id) == made


@pytest.mark.parametrize("left_over", [["volumes"], ["staging", "volumes", "trash", ".lock", ".pool.json.new"]])
def test_making_a_pool_goes_on_where_it_was_interrupted(disk: Path, left_over: list[str]) -> None:
    (disk / "fast").mkdir()
    for name in left_over:
        if name.startswith("."):
            (disk / "fast" / name).touch()
        else:
            (disk / "fast" / name).mkdir()
    assert directory_backend(disk).create(request()).size == model.MIB


@pytest.mark.parametrize("content", ["precious", "volumes/precious"])
def test_no_pool_is_made_where_something_else_is(disk: Path, content: str) -> None:
    (disk / "fast" / content).parent.mkdir(parents=True, exist_ok=True)
    (disk / "fast" / content).touch()
    with pytest.raises(errors.BackendUnavailableError, match="holds"):
        directory_backend(disk)
    assert not (disk / "fast" / ".pool.json").exists()


def test_no_pool_is_made_without_a_parent(disk: Path) -> None:
    with pytest.raises(errors.BackendUnavailableError, match="there is no directory"):
        directory_backend(disk / "missing")
    assert not (disk / "missing").exists()


def _refused(backend: directory.DirectoryBackend, words: str) -> None:
    """Every operation is refused, in words that say what is wrong."""
    volume = model.VolumeId("d1-0123456789abcdef-" + "0" * 32)
    calls: list[Callable[[], object]] = [
        backend.probe,
        lambda: backend.create(request("new")),
        lambda: backend.delete(volume),
        lambda: backend.get(volume),
        lambda: backend.locate(volume),
        lambda: backend.usage(volume),
        lambda: backend.list(after=None, limit=1),
    ]
    for call in calls:
        with pytest.raises(errors.BackendUnavailableError, match=words) as caught:
            call()
        assert caught.value.remedy


def test_a_pool_that_was_never_made_is_refused_and_left_alone(disk: Path) -> None:
    (disk / "fast").mkdir()
    _refused(directory_backend(disk, initialise=False), "is empty")
    assert [*(disk / "fast").iterdir()] == []
    (disk / "fast" / "other").touch()
    _refused(directory_backend(disk, initialise=False), "not a pool")
    shutil.rmtree(disk / "fast")
    _refused(directory_backend(disk, initialise=False), "there is no directory")
    assert not (disk / "fast").exists()


def test_an_unmounted_pool_is_refused_and_works_again_once_mounted(disk: Path, tmp_path: Path) -> None:
    image = mounts.image(tmp_path / "image")
    (disk / "fast").mkdir()
    mounts.mount_image(image, disk / "fast")
    backend = directory_backend(disk)
    made = backend.create(request())
    mounts.unmount(disk / "fast")
    with pytest.raises(errors.BackendUnavailableError, match="not mounted"):
        backend.get(made.id)
    with pytest.raises(errors.BackendUnavailableError, match="not mounted"):
        backend.delete(made.id)
    with pytest.raises(errors.BackendUnavailableError, match="not mounted"):
        backend.locate(made.id)
    with pytest.raises(errors.BackendUnavailableError, match="not mounted"):
        backend.create(request("other"))
    assert [*(disk / "fast").iterdir()] == []
    mounts.mount_image(image, disk / "fast")
    backend.probe()
    assert backend.get(made.id) == made


def test_a_disk_that_was_replaced_by_another_pool_is_refused(disk: Path, tmp_path: Path) -> None:
    (disk / "fast").mkdir()
    for name in ("one", "two"):
        mounts.mount_image(mounts.image(tmp_path / name), disk / "fast")
        directory_backend(disk)
        mounts.unmount(disk / "fast")
    mounts.mount_image(tmp_path / "one", disk / "fast")
    backend = directory_backend(disk, initialise=False)
    made = backend.create(request())
    mounts.unmount(disk / "fast")
    mounts.mount_image(tmp_path / "two", disk / "fast")
    for call in (backend.probe, lambda: backend.get(made.id), lambda: backend.delete(made.id)):
        with pytest.raises(errors.BackendUnavailableError, match="replaced"):
            call()


def test_a_disk_that_did_not_come_up_after_a_restart_gets_no_new_pool_in_its_place(disk: Path, tmp_path: Path) -> None:
    (disk / "fast").mkdir()
    mounts.mount_image(mounts.image(tmp_path / "image"), disk / "fast")
    made = directory_backend(disk, memory=tmp_path).create(request())
    mounts.unmount(disk / "fast")

    restarted = directory_backend(disk, memory=tmp_path, initialise=False)
    for call in (restarted.initialise, restarted.probe, lambda: restarted.create(request("other"))):
        with pytest.raises(errors.BackendUnavailableError, match=r"this node had pool .* not mounted") as caught:
            call()
        assert f"remove {tmp_path}/pool-fast" in caught.value.remedy
    assert [*(disk / "fast").iterdir()] == []

    mounts.mount_image(tmp_path / "image", disk / "fast")
    restarted.initialise()
    assert restarted.get(made.id) == made


def test_a_disk_that_was_replaced_while_nobody_looked_is_refused(disk: Path, tmp_path: Path) -> None:
    (disk / "fast").mkdir()
    for name in ("one", "two"):
        mounts.mount_image(mounts.image(tmp_path / name), disk / "fast")
        directory_backend(disk)
        mounts.unmount(disk / "fast")
    mounts.mount_image(tmp_path / "one", disk / "fast")
    directory_backend(disk, memory=tmp_path).probe()
    mounts.unmount(disk / "fast")
    mounts.mount_image(tmp_path / "two", disk / "fast")

    restarted = directory_backend(disk, memory=tmp_path, initialise=False)
    with pytest.raises(errors.BackendUnavailableError, match="the disk was replaced") as caught:
        restarted.probe()
    assert "mount the right one" in caught.value.remedy

    (tmp_path / "pool-fast").unlink()
    directory_backend(disk, memory=tmp_path, initialise=False).probe()


def test_a_pool_that_cannot_be_remembered_is_refused(disk: Path, tmp_path: Path) -> None:
    backend = directory_backend(disk, memory=tmp_path / "missing")
    with pytest.raises(errors.BackendUnavailableError, match="cannot be remembered"):
        backend.probe()


def test_a_volume_of_a_pool_that_is_not_here_is_not_taken_for_deleted(pool: Pool, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    foreign = directory_backend(tmp_path / "elsewhere").create(request())
    with pytest.raises(errors.VolumeNotFoundError):
        pool.backend.get(foreign.id)
    with pytest.raises(errors.BackendUnavailableError, match="not here"):
        pool.backend.delete(foreign.id)


def test_a_pool_that_was_copied_to_another_filesystem_is_refused(disk: Path, tmp_path: Path) -> None:
    (disk / "fast").mkdir()
    mounts.mount_image(mounts.image(tmp_path / "one"), disk / "fast")
    backend = directory_backend(disk)
    mounts.mount_image(mounts.image(tmp_path / "two"), disk / "fast")
    (tmp_path / "one-again").mkdir()
    mounts.mount_image(tmp_path / "one", tmp_path / "one-again")
    mounts.run("cp", "-a", f"{tmp_path}/one-again/.", disk / "fast")
    _refused(backend, "another filesystem")
    _refused(directory_backend(disk, initialise=False), "another filesystem")


def test_a_pool_that_was_moved_on_purpose_works_when_the_operator_says_so(pool: Pool) -> None:
    made = pool.backend.create(request())
    content = json.loads((pool.root / ".pool.json").read_text())
    content["filesystem"] = {"uuid": "00" * 15 + "01", "fsid": ""}
    (pool.root / ".pool.json").write_text(json.dumps(content))
    with pytest.raises(errors.BackendUnavailableError, match="another filesystem"):
        pool.backend.get(made.id)
    content["filesystem"] = None
    (pool.root / ".pool.json").write_text(json.dumps(content))
    assert pool.backend.get(made.id) == made


@pytest.mark.parametrize(
    ("one", "other", "differs"),
    [
        (marker.Filesystem("a", "1"), marker.Filesystem("a", "2"), False),
        (marker.Filesystem("a", "1"), marker.Filesystem("b", "1"), True),
        (marker.Filesystem("a", "1"), marker.Filesystem("", "1"), False),
        (marker.Filesystem("a", "1"), marker.Filesystem("", "2"), True),
        (marker.Filesystem("", ""), marker.Filesystem("b", "2"), False),
    ],
)
def test_filesystems_are_told_apart_by_what_both_kernels_tell(
    one: marker.Filesystem, other: marker.Filesystem, differs: bool
) -> None:
    assert one.differs_from(other) is differs


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema": 1}', b"\xff\xfe"])
def test_a_damaged_marker_is_refused(pool: Pool, content: bytes) -> None:
    (pool.root / ".pool.json").write_bytes(content)
    _refused(pool.again(), "damaged")


@pytest.mark.parametrize(
    "spelling", [str.upper, "{{{}}}".format, "urn:uuid:{}".format, lambda uuid: uuid.replace("-", "")]
)
def test_a_marker_whose_uuid_would_make_unreadable_ids_is_refused(pool: Pool, spelling: Callable[[str], str]) -> None:
    content = json.loads((pool.root / ".pool.json").read_text())
    (pool.root / ".pool.json").write_text(json.dumps({**content, "pool": spelling(content["pool"])}))
    _refused(pool.again(), "damaged")


def test_a_newer_pool_is_refused(pool: Pool) -> None:
    content = json.loads((pool.root / ".pool.json").read_text())
    (pool.root / ".pool.json").write_text(json.dumps({**content, "schema": 2}))
    _refused(pool.again(), "schema 2")


def test_a_root_that_is_a_symlink_or_a_file_is_refused(pool: Pool, disk: Path) -> None:
    pool.root.rename(disk / "elsewhere")
    pool.root.symlink_to(disk / "elsewhere")
    _refused(pool.backend, "symlink")
    pool.root.unlink()
    pool.root.touch()
    _refused(pool.backend, "file")


def test_a_fresh_disk_that_is_open_to_all_is_closed_when_it_becomes_a_pool(disk: Path) -> None:
    (disk / "fast").mkdir()
    (disk / "fast").chmod(0o1777)
    directory_backend(disk).probe()
    assert (disk / "fast").stat().st_mode & 0o7777 == 0o700


def test_a_root_that_others_may_write_to_is_refused(pool: Pool) -> None:
    pool.root.chmod(0o777)
    _refused(pool.again(), "others may write")
    pool.root.chmod(0o700)
    pool.backend.probe()


@pytest.mark.parametrize("place", ["volumes", "staging", "trash"])
def test_a_pool_whose_directory_was_swapped_for_a_symlink_or_a_mount_is_refused(
    pool: Pool, tmp_path: Path, place: str
) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "precious").touch()
    (pool.root / place).rmdir()
    (pool.root / place).symlink_to(tmp_path / "victim")
    _refused(pool.backend, "symlink")
    (pool.root / place).unlink()
    (pool.root / place).mkdir()
    mounts.bind(tmp_path / "victim", pool.root / place)
    _refused(pool.backend, "mount")
    assert pool.backend.purge_expired() == 0
    assert (tmp_path / "victim" / "precious").exists()


def test_a_read_only_pool_says_so_and_works_again_once_it_is_writable(pool: Pool, disk: Path) -> None:
    made = pool.backend.create(request())
    mounts.run("mount", "-o", "remount,ro", disk)
    for call in (pool.backend.probe, lambda: pool.backend.create(request("new"))):
        with pytest.raises(errors.BackendUnavailableError, match="read-only"):
            call()
    assert pool.backend.get(made.id) == made
    mounts.run("mount", "-o", "remount,rw", disk)
    pool.backend.probe()


def _fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def test_a_full_pool_makes_no_volumes_but_keeps_the_driver_alive(pool: Pool, disk: Path) -> None:
    _fill(disk)
    with structlog.testing.capture_logs() as lines:
        pool.backend.probe()
        pool.backend.probe()
    assert [line["error"] for line in lines] == [
        "pool fast is full: its filesystem has no room left; free space in it, or enlarge it"
    ]
    with pytest.raises(errors.InsufficientCapacityError):
        pool.backend.create(request())
    assert pool.names("volumes") == []
    (disk / "filler").unlink()
    pool.backend.probe()
    pool.backend.create(request())
    assert pool.names("staging") == []


def test_a_pool_that_its_volumes_have_filled_can_still_delete_and_purge(disk: Path, tmp_path: Path) -> None:
    (disk / "fast").mkdir()
    mounts.mount_image(mounts.image(tmp_path / "image"), disk / "fast")
    clock = Clock()
    backend = directory_backend(disk, clock=clock)
    made = [backend.create(request(f"pvc-{number}", size=1)).id for number in range(60)]
    _fill(backend.locate(made[0]))
    for volume in reversed(made):
        backend.delete(volume)
    clock.advance(days=2)
    assert [backend.purge_expired() for _ in range(2)] == [60, 0]
    assert (disk / "fast" / ".reserve").stat().st_size == reserve.SIZE


def test_a_full_pool_that_holds_nothing_back_yet_is_purged_all_the_same(disk: Path) -> None:
    (disk / "fast").mkdir()
    mounts.tmpfs(disk / "fast", "size=4m", "nr_inodes=40")
    clock = Clock()
    backend = directory_backend(disk, clock=clock)
    backend.delete(backend.create(request(size=1)).id)
    (disk / "fast" / ".reserve").unlink()
    with contextlib.suppress(OSError):
        for number in range(40):
            (disk / "fast" / "staging" / str(number)).touch()
    clock.advance(days=2)
    assert backend.purge_expired() == 1


def test_a_pool_that_becomes_full_on_the_way_leaves_no_promise(disk: Path) -> None:
    left = disk / "fast" / "left"

    def use_all_inodes(step: str) -> None:
        if step == "create.reserved":
            left.mkdir()
            with contextlib.suppress(OSError):
                for number in range(1000):
                    (left / str(number)).touch()

    (disk / "fast").mkdir()
    mounts.tmpfs(disk / "fast", "size=16m", "nr_inodes=100")
    backend = directory_backend(disk, steps=use_all_inodes)
    before = backend.capacity(capabilities=(), parameters={}, topology=None).total
    with pytest.raises(errors.InsufficientCapacityError, match="full"):
        backend.create(request())
    assert [*(disk / "fast" / "staging").iterdir()] == []
    assert [*(disk / "fast" / "volumes").iterdir()] == []
    after = backend.capacity(capabilities=(), parameters={}, topology=None).total
    assert abs(after - before) <= 64 * model.KIB


def test_the_emptiest_pool_is_filled_first(disk: Path) -> None:
    backend = directory_backend(disk, names=("small", "large"))
    homes = [backend.locate(backend.create(request(f"pvc-{number}")).id) for number in range(4)]
    assert [home.parents[2].name for home in homes].count("small") == 2


def test_a_class_may_name_its_pool(disk: Path) -> None:
    backend = directory_backend(disk, names=("fast", "slow"))
    for number in range(3):
        made = backend.create(request(f"pvc-{number}", parameters={"pool": "slow"}))
        assert backend.locate(made.id).parents[2].name == "slow"


def test_a_pool_that_is_not_here_takes_nothing_and_names_those_that_are(pool: Pool) -> None:
    with pytest.raises(errors.InsufficientCapacityError, match="'slow' here; the pools are: fast"):
        pool.backend.create(request(parameters={"pool": "slow"}))
    room = pool.backend.capacity(capabilities=(), parameters={"pool": "slow"}, topology=None)
    assert room.total == 0


def test_a_pool_that_is_gone_does_not_stop_the_others(disk: Path) -> None:
    backend = directory_backend(disk, names=("fast", "slow"))
    lost = backend.create(request("lost", parameters={"pool": "slow"}))
    (disk / "slow").rename(disk / "away")
    backend.probe()
    made = backend.create(request("other"))
    assert backend.locate(made.id).parents[2].name == "fast"
    for call in (lambda: backend.get(lost.id), lambda: backend.delete(lost.id)):
        with pytest.raises(errors.BackendUnavailableError, match="pool slow"):
            call()
    with pytest.raises(errors.BackendUnavailableError, match="pool slow"):
        backend.create(request("third", parameters={"pool": "slow"}))
    # A listing that left volumes out would make orphans of their claims.
    with pytest.raises(errors.BackendUnavailableError, match="pool slow"):
        backend.list(after=None, limit=10)
    (disk / "away").rename(disk / "slow")
    assert backend.get(lost.id) == lost


def test_a_pool_that_cannot_be_made_does_not_stop_the_others_from_being_made(disk: Path) -> None:
    (disk / "a").mkdir()
    (disk / "a" / "something").touch()
    backend = directory_backend(disk, names=("a", "b"), initialise=False)
    with pytest.raises(errors.BackendUnavailableError, match="pool a: no pool is made"):
        backend.initialise()
    assert backend.locate(backend.create(request()).id).parents[2].name == "b"


def test_volumes_of_all_pools_are_listed_in_one_order(disk: Path) -> None:
    backend = directory_backend(disk, names=("a", "b", "c"))
    made = sorted(backend.create(request(f"pvc-{number}", size=1)).id for number in range(9))
    seen: list[model.VolumeId] = []
    while page := backend.list(after=seen[-1] if seen else None, limit=2):
        seen.extend(volume.id for volume in page)
    assert seen == made


def test_a_shared_pool_has_no_place_and_every_mode(disk: Path) -> None:
    backend = directory_backend(disk, node=None)
    assert not backend.features.topology
    assert backend.topology() is None
    capabilities = tuple(model.Capability(access_mode=mode) for mode in model.AccessMode)
    elsewhere = model.Accessibility(requisite=(model.Topology.of({"zone": "far"}),))
    assert backend.create(request(capabilities=capabilities, accessibility=elsewhere)).topologies == ()


@pytest.mark.parametrize(
    ("node", "refusal"), [("node-1", errors.InsufficientCapacityError), (None, errors.SizeOutOfRangeError)]
)
def test_a_size_above_the_pool_s_is_out_of_range_only_where_no_other_node_may_have_a_larger_pool(
    disk: Path, node: str | None, refusal: type[errors.ProvisionerError]
) -> None:
    backend = directory_backend(disk, node=node)
    with pytest.raises(refusal, match="when it is empty; ask for less, or use a larger pool"):
        backend.create(request(size=1 << 60))


def test_the_metrics_tell_the_pool_s_bytes(disk: Path) -> None:
    measured = metrics.Metrics()
    backend = directory_backend(disk, measured=measured, clock=Clock())
    backend.create(request())
    backend.probe()

    def told(state: str) -> float | None:
        return measured.registry.get_sample_value("provisioner_pool_bytes", {"pool": "fast", "state": state})

    assert told("promised") == model.MIB
    assert told("available") == backend.capacity(capabilities=(), parameters={}, topology=None).total
    assert (told("size") or 0) > 0
    assert (told("free") or 0) > 0


def test_what_others_used_before_the_pool_was_made_is_not_promised(disk: Path) -> None:
    (disk / "others").write_bytes(bytes(8 * model.MIB))
    backend = directory_backend(disk)
    room = backend.capacity(capabilities=(), parameters={}, topology=None)
    assert 6 * model.MIB < room.total <= 8 * model.MIB - reserve.SIZE


def test_spare_bytes_are_never_promised(disk: Path) -> None:
    backend = directory_backend(disk, spare=10 * model.MIB)
    room = backend.capacity(capabilities=(), parameters={}, topology=None)
    assert 4 * model.MIB < room.total <= 6 * model.MIB - reserve.SIZE


def test_data_in_volumes_does_not_count_twice(pool: Pool) -> None:
    made = pool.backend.create(request(size=8 * model.MIB))
    before = pool.room()
    (pool.backend.locate(made.id) / "file").write_bytes(bytes(8 * model.MIB))
    assert abs(pool.room() - before) <= 128 * model.KIB
