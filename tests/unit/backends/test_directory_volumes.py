"""Volumes that are directories: their records, their modes, their way into the trash and out of the world."""

import datetime
import itertools
import json
import os
import threading
from pathlib import Path

import pytest
import structlog

from provisioner import errors, metrics, model
from provisioner.backends.directory import config, ids, parameters, records, removal, room, trash
from provisioner.backends.directory import pool as directory_pool
from tests.fakes import mounts
from tests.fakes.directory_pools import NODE, ROX, RWO, RWX, directory_backend, request
from tests.unit.backends.conftest import Pool


def test_the_data_directory_is_root_s_and_hands_its_group_down(pool: Pool) -> None:
    data = pool.backend.locate(pool.backend.create(request()).id).stat()
    assert (data.st_mode & 0o7777, data.st_uid, data.st_gid) == (0o2770, 0, 0)


def test_the_umask_changes_nothing(pool: Pool) -> None:
    before = os.umask(0o077)
    try:
        made = pool.backend.create(request())
    finally:
        os.umask(before)
    assert pool.backend.locate(made.id).stat().st_mode & 0o7777 == 0o2770


def test_the_record_tells_what_an_operator_wants_to_know(pool: Pool) -> None:
    secret = model.Capability(access_mode=RWO.access_mode, mount_flags=("password=secret",))
    asked = model.VolumeRequest(
        name="pvc-1",
        size=model.SizeRange(required=1000),
        capabilities=(secret,),
        parameters={
            "enforcement": "none",
            "csi.storage.k8s.io/pvc/name": "www-web-0",
            "csi.storage.k8s.io/pvc/namespace": "shop",
            "csi.storage.k8s.io/pv/name": "pvc-1",
        },
        secrets={"key": "secret"},
    )
    made = pool.backend.create(asked)
    text = (pool.home(made.id) / "meta.json").read_text()
    assert json.loads(text) == {
        "schema": 1,
        "id": made.id.value,
        "name": "pvc-1",
        "size": 1000,
        "capabilities": [{"access_mode": "SINGLE_NODE_WRITER", "access_type": "mount"}],
        "parameters": {"enforcement": "none"},
        "label": "shop/www-web-0",
        "enforcement": "none",
        "node_name": NODE,
        "created": "2026-01-01T00:00:00.000002+00:00",
    }
    assert "secret" not in text


def test_the_context_says_that_the_size_is_not_enforced(pool: Pool) -> None:
    assert pool.backend.create(request()).context == {"enforcement": "none"}


@pytest.mark.parametrize(
    ("capability", "words"),
    [
        (RWX, "ReadWriteMany"),
        (ROX, "ReadOnlyMany"),
        (model.Capability(access_mode=RWO.access_mode, access_type=model.AccessType.BLOCK), "volumeMode: Filesystem"),
        (model.Capability(access_mode=RWO.access_mode, fs_type="ext4"), "csi.storage.k8s.io/fstype"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_what_to_write_instead(
    pool: Pool, capability: model.Capability, words: str
) -> None:
    with pytest.raises(errors.InvalidRequestError, match=words) as caught:
        pool.backend.create(request(capabilities=(capability,)))
    assert "write" in caught.value.remedy or "remove" in caught.value.remedy


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"enforcment": "none"}, "did you mean enforcement"),
        ({"Pool": "x"}, "did you mean pool"),
        ({"zzz": "x"}, "the parameters are enforcement and pool"),
        ({"enforcement": "maybe"}, "none, preferred, required"),
        ({"enforcement": "required"}, "preferred"),
        ({"a\n" * 100: ""}, "unknown"),
    ],
)
def test_a_wrong_parameter_is_refused_with_the_right_one(given: dict[str, str], words: str) -> None:
    with pytest.raises(errors.InvalidParameterError, match=words) as caught:
        parameters.Parameters.parse(given)
    assert "\n" not in str(caught.value)


def test_parameters_of_the_watcher_are_not_judged() -> None:
    parsed = parameters.Parameters.parse({"csi.storage.k8s.io/anything": "x", "pool": "fast"})
    assert parsed == parameters.Parameters(enforcement="preferred", pool="fast", label="")


def test_the_refusal_of_an_existing_name_says_what_differs(pool: Pool) -> None:
    pool.backend.create(request(size=1000))
    for changed, words in (
        (request(size=2000), "the size: it has 1000 bytes, and at least 2000"),
        (request(size=1, limit=10), "at least 1 and at most 10"),
        (request(size=1000, parameters={"enforcement": "none"}), "parameters: enforcement"),
    ):
        with pytest.raises(errors.VolumeExistsError, match=words):
            pool.backend.create(changed)


def test_mount_options_are_no_property_of_a_directory(pool: Pool) -> None:
    made = pool.backend.create(request())
    other = model.Capability(access_mode=RWO.access_mode, mount_flags=("noatime",))
    assert pool.backend.create(request(capabilities=(other,))) == made


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cannot be read"),
        (b'{"schema": 1, "id"', "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"[]", "cannot be read"),
        (b'{"schema": 1}', "cannot be read"),
        (b'{"schema": 2, "anything": {}}', "run a newer program"),
        (None, "cannot be opened"),
    ],
)
def test_an_unreadable_record_quarantines_one_volume(pool: Pool, content: bytes | None, words: str) -> None:
    good, bad = pool.backend.create(request("good")), pool.backend.create(request("bad"))
    (pool.backend.locate(bad.id) / "precious").touch()
    record = pool.home(bad.id) / "meta.json"
    if content is None:
        record.unlink()
    else:
        record.write_bytes(content)
    for call in (
        lambda: pool.backend.get(bad.id),
        lambda: pool.backend.locate(bad.id),
        lambda: pool.backend.delete(bad.id),
        lambda: pool.backend.create(request("bad")),
        lambda: pool.backend.usage(bad.id),
    ):
        with pytest.raises(errors.VolumeQuarantinedError, match=words) as caught:
            call()
        assert bad.id.value in caught.value.message
    assert (pool.home(bad.id) / "data" / "precious").exists()
    assert pool.backend.get(good.id) == good
    assert pool.again().create(request("another")).size == model.MIB


def test_a_record_of_another_volume_quarantines(pool: Pool) -> None:
    one, two = pool.backend.create(request("one")), pool.backend.create(request("two"))
    (pool.home(one.id) / "meta.json").write_bytes((pool.home(two.id) / "meta.json").read_bytes())
    with pytest.raises(errors.VolumeQuarantinedError, match="another volume"):
        pool.backend.get(one.id)


@pytest.mark.parametrize("size", [-1, 0, 2**63, 2**64 - 1, 10**30])
def test_a_record_of_a_size_that_cannot_be_quarantines_one_volume(pool: Pool, size: int) -> None:
    good, bad = pool.backend.create(request("good")), pool.backend.create(request("bad"))
    record = pool.home(bad.id) / "meta.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "size": size}))
    with pytest.raises(errors.VolumeQuarantinedError):
        pool.backend.get(bad.id)
    assert pool.backend.list(after=None, limit=10) == [good]


def test_quarantined_volumes_are_counted_until_they_are_mended(pool: Pool) -> None:
    made = pool.backend.create(request())
    record = pool.home(made.id) / "meta.json"
    content = record.read_bytes()

    def told() -> float | None:
        return pool.measured.registry.get_sample_value("provisioner_quarantined_volumes", {"pool": "fast"})

    record.write_bytes(b"{")
    pool.backend.purge_expired()
    assert told() == 1
    record.write_bytes(content)
    assert pool.backend.get(made.id) == made
    assert told() == 0


def test_a_volume_swapped_for_a_symlink_is_quarantined(pool: Pool, tmp_path: Path) -> None:
    made = pool.backend.create(request())
    (tmp_path / "victim").mkdir()
    pool.home(made.id).rename(tmp_path / "disk" / "away")
    pool.home(made.id).symlink_to(tmp_path / "victim")
    for call in (pool.backend.get, pool.backend.locate, pool.backend.delete, pool.backend.usage):
        with pytest.raises(errors.VolumeQuarantinedError, match="symlink"):
            call(made.id)
    assert pool.backend.list(after=None, limit=10) == []


def test_a_deleted_volume_lies_in_the_trash_with_its_record_and_data(pool: Pool) -> None:
    made = pool.backend.create(request())
    (pool.backend.locate(made.id) / "file").write_text("content")
    pool.backend.delete(made.id)
    (name,) = pool.names("trash")
    assert name.endswith(made.id.value)
    assert name.startswith("20260101T000000.")
    assert (pool.root / "trash" / name / "data" / "file").read_text() == "content"
    assert json.loads((pool.root / "trash" / name / "meta.json").read_text())["id"] == made.id.value


def test_deleted_bytes_count_until_they_are_purged(pool: Pool) -> None:
    before = pool.room()
    made = pool.backend.create(request(size=8 * model.MIB))
    pool.backend.delete(made.id)
    with pytest.raises(errors.InsufficientCapacityError, match="until they are purged"):
        pool.backend.create(request("other", size=10 * model.MIB))
    pool.clock.advance(hours=25)
    assert pool.backend.purge_expired() == 1
    assert abs(pool.room() - before) <= 64 * model.KIB
    assert pool.backend.create(request("other", size=10 * model.MIB)).size == 10 * model.MIB


def test_the_trash_is_kept_for_as_long_as_was_said(pool: Pool) -> None:
    pool.backend.delete(pool.backend.create(request()).id)
    pool.clock.advance(hours=23, minutes=59)
    assert pool.backend.purge_expired() == 0
    assert len(pool.names("trash")) == 1
    pool.clock.advance(minutes=2)
    assert pool.backend.purge_expired() == 1
    assert pool.names("trash") == []


def test_one_name_may_lie_in_the_trash_several_times(pool: Pool) -> None:
    for _ in range(3):
        pool.backend.delete(pool.backend.create(request()).id)
    assert len(pool.names("trash")) == 3
    pool.clock.advance(days=2)
    assert pool.backend.purge_expired() == 3


def test_strangers_in_the_trash_are_left_alone(pool: Pool) -> None:
    for name in ("precious", "99999999T999999.999999Z-d1-0123456789abcdef-" + "0" * 32):
        (pool.root / "trash" / name).mkdir()
    pool.clock.advance(days=400)
    assert pool.backend.purge_expired() == 0
    assert len(pool.names("trash")) == 2


def test_a_mounted_volume_is_not_deleted_and_the_refusal_says_where_it_is(pool: Pool, tmp_path: Path) -> None:
    made = pool.backend.create(request())
    target = tmp_path / "pods" / "pod 1"
    target.mkdir(parents=True)
    for shown in ("", "sub"):
        source = pool.backend.locate(made.id) / shown
        source.mkdir(exist_ok=True)
        mounts.bind(source, target)
        with pytest.raises(errors.VolumeInUseError, match="pods/pod 1"):
            pool.backend.delete(made.id)
        mounts.unmount(target)
    pool.backend.delete(made.id)


def test_a_volume_in_which_something_is_mounted_is_not_deleted(pool: Pool) -> None:
    made = pool.backend.create(request())
    inner = pool.backend.locate(made.id) / "inner"
    inner.mkdir()
    mounts.tmpfs(inner)
    with pytest.raises(errors.VolumeInUseError, match="mounted in it"):
        pool.backend.delete(made.id)
    mounts.unmount(inner)
    pool.backend.delete(made.id)


def test_a_volume_that_is_mounted_while_it_is_deleted_comes_back(pool: Pool, tmp_path: Path) -> None:
    (tmp_path / "pod").mkdir()
    made = pool.backend.create(request())

    def mount(step: str) -> None:
        if step == "delete.checked":
            mounts.bind(pool.backend.locate(made.id), tmp_path / "pod")

    backend = directory_backend(pool.root.parent, steps=mount, initialise=False)
    with pytest.raises(errors.VolumeInUseError):
        backend.delete(made.id)
    assert pool.backend.get(made.id) == made
    assert pool.names("trash") == []


def test_a_deleted_volume_that_is_still_mounted_is_not_purged(pool: Pool, tmp_path: Path) -> None:
    made = pool.backend.create(request())
    (pool.backend.locate(made.id) / "file").touch()
    pool.backend.delete(made.id)
    (name,) = pool.names("trash")
    (tmp_path / "pod").mkdir()
    mounts.bind(pool.root / "trash" / name / "data", tmp_path / "pod")
    pool.clock.advance(days=2)
    assert pool.backend.purge_expired() == 0
    assert (tmp_path / "pod" / "file").exists()
    mounts.unmount(tmp_path / "pod")
    assert pool.backend.purge_expired() == 1


def _purge(pool: Pool) -> int:
    pool.clock.advance(days=2)
    return pool.backend.purge_expired()


def test_purging_follows_no_symlink(pool: Pool, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    (victim / "below").mkdir(parents=True)
    (victim / "below" / "precious").touch()
    made = pool.backend.create(request())
    data = pool.backend.locate(made.id)
    (data / "link").symlink_to(victim)
    (data / "sub").mkdir()
    (data / "sub" / "up").symlink_to("../../../../..")
    pool.backend.delete(made.id)
    assert _purge(pool) == 1
    assert pool.names("trash") == []
    assert (victim / "below" / "precious").exists()


def test_purging_a_trash_entry_that_became_a_symlink_touches_nothing(pool: Pool, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    (victim / "data").mkdir(parents=True)
    (victim / "data" / "precious").touch()
    pool.backend.delete(pool.backend.create(request()).id)
    (name,) = pool.names("trash")
    (pool.root / "trash" / name).rename(tmp_path / "disk" / "away")
    (pool.root / "trash" / name).symlink_to(victim)
    assert _purge(pool) == 0
    assert (victim / "data" / "precious").exists()


def test_purging_data_that_became_a_symlink_removes_the_link_alone(pool: Pool, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "precious").touch()
    pool.backend.delete(pool.backend.create(request()).id)
    (name,) = pool.names("trash")
    (pool.root / "trash" / name / "data").rmdir()
    (pool.root / "trash" / name / "data").symlink_to(victim)
    assert _purge(pool) == 1
    assert (victim / "precious").exists()


@pytest.mark.parametrize("kind", ["same filesystem", "other filesystem", "file"])
def test_purging_never_reaches_through_a_mount_and_ends_when_it_is_gone(pool: Pool, tmp_path: Path, kind: str) -> None:
    made = pool.backend.create(request())
    victim = pool.root.parent / "victim"
    victim.mkdir()
    (victim / "precious").write_text("precious")
    data = pool.backend.locate(made.id)
    (data / "file").touch()
    (data / "inner").mkdir()
    pool.backend.delete(made.id)
    (name,) = pool.names("trash")
    inner = pool.root / "trash" / name / "data" / "inner"
    if kind == "file":
        inner = inner.with_name("file")
        mounts.bind(victim / "precious", inner)
    elif kind == "same filesystem":
        mounts.bind(victim, inner)
    else:
        mounts.tmpfs(inner)
        (inner / "precious").touch()
    fd = os.open(pool.root / "trash" / name, os.O_RDONLY)
    try:
        # The check for mounts is passed by, as if the mount were made just after it.
        with pytest.raises(OSError, match=r"cross-device|busy"):
            removal.empty(fd, keep="meta.json", may_go_on=lambda: True)
    finally:
        os.close(fd)
    assert inner.read_text() == "precious" if kind == "file" else (inner / "precious").exists()
    assert (victim / "precious").read_text() == "precious"
    assert _purge(pool) == 0
    mounts.unmount(inner)
    assert _purge(pool) == 1
    assert (victim / "precious").exists()


def test_purging_a_hard_link_leaves_the_file_where_else_it_is(pool: Pool) -> None:
    made = pool.backend.create(request())
    outside = pool.root.parent / "outside"
    outside.write_text("precious")
    os.link(outside, pool.backend.locate(made.id) / "link")
    pool.backend.delete(made.id)
    assert _purge(pool) == 1
    assert outside.read_text() == "precious"


def test_any_tree_that_a_pod_can_make_is_removed(pool: Pool) -> None:
    made = pool.backend.create(request())
    data = pool.backend.locate(made.id)
    for name in ("größe-🗄", "x" * 255, "-rf", "a\nb", " ", "meta.json"):
        (data / name).mkdir()
        (data / name / name).touch()
    (data / os.fsdecode(b"\xff\xfe")).touch()
    os.mkfifo(data / "fifo")
    os.mknod(data / "device", 0o600 | 0o020000, os.makedev(1, 3))
    deep = os.open(data, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=deep)
        below = os.open("d", os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = below
    os.close(deep)
    pool.backend.delete(made.id)
    assert _purge(pool) == 1
    assert pool.names("trash") == []


def test_one_volume_that_cannot_be_purged_does_not_stop_the_others(pool: Pool) -> None:
    stuck, free = pool.backend.create(request("stuck")), pool.backend.create(request("free"))
    pool.backend.delete(stuck.id)
    pool.backend.delete(free.id)
    inner = next(entry for entry in (pool.root / "trash").iterdir() if entry.name.endswith(stuck.id.value))
    mounts.tmpfs(inner / "data")
    assert _purge(pool) == 1
    mounts.unmount(inner / "data")
    assert _purge(pool) == 1


def test_purging_stops_when_its_time_is_over_and_goes_on_the_next_time(pool: Pool) -> None:
    made = pool.backend.create(request())
    for number in range(10):
        (pool.backend.locate(made.id) / str(number)).touch()
    pool.backend.delete(made.id)
    pool.clock.advance(days=2)
    assert pool.backend.purge_expired(budget=0) == 0
    assert len(pool.names("trash")) == 1
    room_before = pool.room()
    assert pool.backend.purge_expired() == 1
    assert pool.room() > room_before


def test_a_volume_that_takes_all_the_time_does_not_hold_up_the_others(pool: Pool) -> None:
    large, small = pool.backend.create(request("large")), pool.backend.create(request("small"))
    for number in range(20):
        (pool.backend.locate(large.id) / str(number)).touch()
    pool.backend.delete(large.id)
    pool.backend.delete(small.id)
    settings = config.DirectoryConfig(pools={"fast": pool.root}, topology_key="t")
    emptied = trash.Trash(
        directory_pool.Pool("fast", settings, measured=metrics.Metrics(), clock=pool.clock),
        retention=datetime.timedelta(),
        clock=pool.clock,
        steps=lambda _step: None,
    )
    purged = []
    for _ in range(2):
        answers = itertools.chain([True] * 5, itertools.repeat(False))
        purged.append(emptied.purge(may_go_on=answers.__next__))
    assert purged == [0, 1]
    (left,) = pool.names("trash")
    assert left.endswith(large.id.value)


def test_what_another_process_purges_meanwhile_is_no_fault(pool: Pool) -> None:
    made, other = pool.backend.create(request()), pool.again()

    def purge_too(step: str) -> None:
        if step == "purge.emptied":
            other.purge_expired()

    backend = directory_backend(pool.root.parent, clock=pool.clock, steps=purge_too)
    backend.delete(made.id)
    pool.clock.advance(days=2)
    with structlog.testing.capture_logs() as lines:
        assert backend.purge_expired() == 0
    assert [line["log_level"] for line in lines] == ["info"]
    assert pool.names("trash") == []


def test_a_removal_that_is_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / str(number)).touch()
    (tmp_path / "kept").touch()
    fd = os.open(tmp_path, os.O_RDONLY)
    answers = iter([True] * 4)
    try:
        with pytest.raises(removal.RemovalStoppedError):
            removal.empty(fd, keep="kept", may_go_on=lambda: next(answers, False))
        assert 7 <= len([*tmp_path.iterdir()]) < 11
        removal.empty(fd, keep="kept", may_go_on=lambda: True)
    finally:
        os.close(fd)
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept"]


def test_usage_counts_what_is_written_and_hard_links_once(pool: Pool) -> None:
    made = pool.backend.create(request(size=8 * model.MIB))
    data = pool.backend.locate(made.id)
    (data / "sub").mkdir()
    (data / "sub" / "file").write_bytes(bytes(model.MIB))
    os.link(data / "sub" / "file", data / "link")
    usage = pool.backend.usage(made.id)
    assert model.MIB <= usage.used < model.MIB + 64 * model.KIB
    assert (usage.total, usage.available) == (8 * model.MIB, 8 * model.MIB - usage.used)


def test_each_of_many_links_counts_for_its_share(pool: Pool) -> None:
    made = pool.backend.create(request())
    data = pool.backend.locate(made.id)
    empty = pool.backend.usage(made.id).used
    (data / "0").write_bytes(bytes(64 * model.KIB))
    for number in range(1, 7):
        os.link(data / "0", data / str(number))
    grown = pool.again().usage(made.id).used - empty
    assert grown == 64 * model.KIB


def test_what_is_available_is_never_more_than_the_pool_has(pool: Pool) -> None:
    made = pool.backend.create(request(size=12 * model.MIB))
    (pool.root.parent / "others").write_bytes(bytes(12 * model.MIB))
    usage = pool.backend.usage(made.id)
    assert usage.total == 12 * model.MIB
    assert usage.available < 4 * model.MIB


def test_a_volume_that_is_over_full_has_nothing_available(pool: Pool) -> None:
    made = pool.backend.create(request(size=1000))
    (pool.backend.locate(made.id) / "file").write_bytes(bytes(8192))
    usage = pool.backend.usage(made.id)
    assert usage.used >= 8192
    assert usage.available == 0


def test_what_is_mounted_in_a_volume_is_not_its_usage(pool: Pool) -> None:
    made = pool.backend.create(request())
    inner = pool.backend.locate(made.id) / "inner"
    inner.mkdir()
    mounts.tmpfs(inner)
    (inner / "file").write_bytes(bytes(4 * model.MIB))
    assert pool.backend.usage(made.id).used < model.MIB


def test_what_a_killed_process_was_building_is_removed(pool: Pool) -> None:
    volume = ids.DirectoryId.parse(pool.backend.create(request()).id.value)
    assert volume is not None
    left = pool.root / "staging" / ids.new_staging_name(volume)
    left.mkdir()
    (left / "meta.json").write_bytes(b"{}")
    (left / "data").mkdir()
    pool.backend.purge_expired()
    assert pool.names("staging") == []


def test_what_is_left_in_staging_with_data_is_never_removed(pool: Pool) -> None:
    volume = ids.DirectoryId.parse(pool.backend.create(request()).id.value)
    assert volume is not None
    left = pool.root / "staging" / ids.new_staging_name(volume)
    (left / "data").mkdir(parents=True)
    (left / "data" / "precious").touch()
    pool.backend.purge_expired()
    assert (left / "data" / "precious").exists()


def test_what_a_living_process_builds_is_left_alone_and_named(pool: Pool) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def hold(step: str) -> None:
        if step == "create.synced":
            reached.set()
            assert go_on.wait(30)

    slow = directory_backend(pool.root.parent, steps=hold, initialise=False)
    made: list[model.Volume] = []
    thread = threading.Thread(target=lambda: made.append(slow.create(request())))
    thread.start()
    assert reached.wait(30)
    pool.backend.purge_expired()
    with pytest.raises(errors.OperationPendingError, match="another process"):
        pool.backend.create(request())
    # Its size is promised all the same.
    before = pool.room()
    go_on.set()
    thread.join(30)
    assert abs(pool.room() - before) <= 64 * model.KIB
    assert pool.backend.get(made[0].id) == made[0]


def test_a_promise_made_by_another_process_is_seen(pool: Pool) -> None:
    other = pool.again()
    other.create(request("one", size=10 * model.MIB))
    with pytest.raises(errors.InsufficientCapacityError):
        pool.backend.create(request("two", size=10 * model.MIB))
    pool.backend.create(request("three", size=4 * model.MIB))
    with pytest.raises(errors.InsufficientCapacityError):
        other.create(request("four", size=4 * model.MIB))


def test_a_volume_that_an_operator_removed_is_no_longer_promised(pool: Pool) -> None:
    made = pool.backend.create(request(size=8 * model.MIB))
    pool.home(made.id).rename(pool.root.parent / "away")
    pool.backend.purge_expired()
    assert pool.backend.create(request("other", size=10 * model.MIB)).size == 10 * model.MIB


def test_an_id_is_read_as_it_was_written_and_nothing_else_is() -> None:
    volume = ids.DirectoryId.of("0123456789abcdef", "pvc-1")
    assert ids.DirectoryId.parse(str(volume)) == volume
    assert str(model.VolumeId.parse(str(volume))) == str(volume)
    for text in (
        "",
        "d1-..-x",
        f"{volume}\n",
        f" {volume}",
        f"{volume}/..",
        str(volume).upper(),
        f"{volume}\0",
        "d2" + str(volume)[2:],
    ):
        assert ids.DirectoryId.parse(text) is None
        assert ids.staged_volume(text) is None


def test_names_in_the_trash_are_sorted_by_time() -> None:
    volume = str(ids.DirectoryId.of("0123456789abcdef", "pvc-1"))
    early = ids.TrashName(datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), volume)
    late = ids.TrashName(datetime.datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=datetime.UTC), volume)
    assert sorted([late, early]) == [early, late]
    assert sorted([str(late), str(early)]) == [str(early), str(late)]
    assert ids.TrashName.parse(str(late)) == late


def test_a_record_is_read_as_it_was_written() -> None:
    volume = ids.DirectoryId.of("0123456789abcdef", "größe")
    record = records.Record(
        schema=1,
        id=str(volume),
        name="größe",
        size=2**60,
        capabilities=records.describe_capabilities((RWX, RWO, RWO)),
        parameters={"pool": "fast"},
        label="a/b",
        enforcement="none",
        node_name="n",
        created="2026-01-01T00:00:00+00:00",
    )
    assert records.decode(records.encode(record), volume) == record


def test_blocks_that_only_root_may_use_are_not_promised() -> None:
    filesystem = os.statvfs_result((4096, 4096, 1000, 600, 500, 0, 0, 0, 0, 255))
    found = room.reckon(filesystem, foreign=400 * 4096, promised=100 * 4096, volumes=2, spare=4096)
    assert found == room.Room(
        size=499 * 4096, free=500 * 4096, promised=100 * 4096, available=399 * 4096 - 3 * room.OVERHEAD
    )


def test_a_pool_without_room_never_has_less_than_none() -> None:
    filesystem = os.statvfs_result((4096, 4096, 100, 0, 0, 0, 0, 0, 0, 255))
    found = room.reckon(filesystem, foreign=0, promised=150 * 4096, volumes=1, spare=10**9)
    assert (found.size, found.available) == (0, 0)
