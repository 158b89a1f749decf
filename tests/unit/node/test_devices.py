"""The node's half for block devices, with real filesystems on loop devices."""

import os
import stat
from pathlib import Path

import pytest

from provisioner import errors, linux, model
from provisioner.backends import base
from provisioner.node import device_volumes, devices, mountinfo, requests
from tests.fakes import mounts
from tests.unit.node import device_host

MODES = model.AccessMode
host = device_host.host


def sizes(host: device_host.DeviceHost, volume_id: model.VolumeId) -> int:
    return host.volumes().usage(volume_id, host.kubelet / "staged").total


def expand_request(host: device_host.DeviceHost, volume_id: model.VolumeId, required: int) -> requests.ExpandRequest:
    return requests.ExpandRequest(
        volume_id=volume_id,
        path=host.kubelet / "staged",
        staging=None,
        size=model.SizeRange(required),
        capability=None,
    )


@pytest.mark.parametrize(("fs_type", "mebibytes"), [("ext4", 32), ("xfs", 320)])
def test_what_a_pod_writes_is_there_after_the_volume_was_away(
    host: device_host.DeviceHost, fs_type: str, mebibytes: int
) -> None:
    volume = host.backend.make("vol", mebibytes)
    for turn in range(2):
        node = host.volumes()
        node.stage(host.stage(volume, fs_type=fs_type))
        node.publish(host.publish(volume))
        place = host.kubelet / "pod-1" / "kept"
        if turn == 0:
            place.write_text("by the first Pod")
        assert place.read_text() == "by the first Pod"
        node.unpublish(volume, host.kubelet / "pod-1")
        node.unstage(volume, host.kubelet / "staged")
        assert host.backend.device(volume) is None
        assert not (host.kubelet / "pod-1").exists()
    assert host.backend.formatted(volume) is base.Formatted.DONE


def test_every_call_can_be_repeated(host: device_host.DeviceHost) -> None:
    volume = host.backend.make("vol")
    for _ in range(2):
        host.volumes().stage(host.stage(volume))
    for _ in range(2):
        host.volumes().publish(host.publish(volume))
    assert len(mountinfo.mounts_at(host.kubelet / "staged")) == 1
    assert len(mountinfo.mounts_at(host.kubelet / "pod-1")) == 1
    for _ in range(2):
        host.volumes().unpublish(volume, host.kubelet / "pod-1")
    for _ in range(2):
        host.volumes().unstage(volume, host.kubelet / "staged")
    assert host.backend.device(volume) is None


@pytest.mark.parametrize(
    "step", ["stage.attached", "stage.recorded", "stage.made", "stage.formatted", "stage.mounted", "publish.mounted"]
)
@pytest.mark.parametrize(("fs_type", "mebibytes"), [("ext4", 32), ("xfs", 320)])
def test_a_node_that_is_killed_at_any_step_goes_on_from_there(
    host: device_host.DeviceHost, step: str, fs_type: str, mebibytes: int
) -> None:
    volume = host.backend.make("vol", mebibytes)

    def kill(reached: str) -> None:
        if reached == step:
            os._exit(9)

    def work() -> None:
        node = host.volumes(steps=kill)
        node.stage(host.stage(volume, fs_type=fs_type))
        node.publish(host.publish(volume))

    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    node = host.volumes()
    node.stage(host.stage(volume, fs_type=fs_type))
    node.publish(host.publish(volume))
    (host.kubelet / "pod-1" / "file").write_text("works")
    assert len(mountinfo.mounts_at(host.kubelet / "staged")) == 1


def test_mkfs_that_was_cut_short_in_mid_write_is_done_again(host: device_host.DeviceHost) -> None:
    volume = host.backend.make("vol", 320)
    mounts.run("mkfs.xfs", "-q", host.backend.file(volume))
    with host.backend.file(volume).open("r+b") as file:
        file.seek(126)
        file.write(b"\1")  # What XFS has there until its mkfs is through.
    host.backend.record_format(volume, base.Formatted.BEGUN)
    host.volumes().stage(host.stage(volume, fs_type="xfs"))
    assert (host.kubelet / "staged").is_mount()


def test_what_a_pod_wrote_to_a_raw_device_is_not_taken_for_the_remains_of_a_mkfs(host: device_host.DeviceHost) -> None:
    volume = host.backend.make("vol", 32)
    host.backend.record_format(volume, base.Formatted.BEGUN)  # As a process leaves it that is killed before its mkfs.
    host.volumes().stage(host.stage(volume, capability=device_host.BLOCK))
    host.volumes().unstage(volume, host.kubelet / "staged")
    with host.backend.file(volume).open("r+b") as file:
        file.write(b"a database of its own kind")
    with pytest.raises(errors.NotReadyError, match="no filesystem"):
        host.volumes().stage(host.stage(volume))
    assert host.backend.file(volume).read_bytes()[:26] == b"a database of its own kind"


def test_a_device_that_a_pod_has_is_not_taken_away_though_the_staging_path_is_gone(
    host: device_host.DeviceHost,
) -> None:
    volume = host.backend.make("vol", 32)
    host.volumes().stage(host.stage(volume, capability=device_host.BLOCK))
    host.volumes().publish(host.publish(volume, capability=device_host.BLOCK))
    with pytest.raises(errors.VolumeInUseError, match="still"):
        host.volumes().unstage(volume, host.kubelet / "gone" / "staged")
    assert host.backend.device(volume) is not None


# A partition of Linux from sector 2048 on, as the boot sector has it.
PARTITION_TABLE = b"\0\0\0\0\x83\0\0\0" + (2048).to_bytes(4, "little") + (4096).to_bytes(4, "little")


def fill(file: Path, what: str) -> None:
    if what == "ext3":
        mounts.run("mkfs.ext3", "-q", file)
    elif what == "swap":
        mounts.run("mkswap", file)
    else:
        offset, content = {
            "partitions": (446, PARTITION_TABLE + bytes(48) + b"\x55\xaa"),
            "raw": (4096, b"a database"),
        }[what]
        with file.open("r+b") as opened:
            opened.seek(offset)
            opened.write(content)


@pytest.mark.parametrize(
    ("what", "shown"),
    [
        ("ext3", "a ext3 filesystem"),
        ("swap", "(swap)"),
        ("partitions", "dos partition table"),
        ("raw", "no filesystem"),
    ],
)
@pytest.mark.parametrize("record", [base.Formatted.NEVER, base.Formatted.DONE])
def test_nothing_is_ever_made_over_what_is_there(
    host: device_host.DeviceHost, what: str, shown: str, record: base.Formatted
) -> None:
    volume = host.backend.make("vol", 64)
    file = host.backend.file(volume)
    fill(file, what)
    host.backend.record_format(volume, record)
    before = file.read_bytes()
    with pytest.raises(errors.NotReadyError) as caught:
        host.volumes().stage(host.stage(volume))
    assert shown in caught.value.message
    assert file.read_bytes() == before
    assert not (host.kubelet / "staged").is_mount()


def test_another_filesystem_than_the_one_asked_for_is_left_alone(host: device_host.DeviceHost) -> None:
    volume = host.backend.make("vol", 320)
    mounts.run("mkfs.xfs", "-q", host.backend.file(volume))
    with pytest.raises(errors.NotReadyError, match="holds a xfs filesystem, and ext4 was asked for"):
        host.volumes().stage(host.stage(volume, fs_type="ext4"))


def test_a_volume_whose_filesystem_has_vanished_is_not_given_a_new_one(host: device_host.DeviceHost) -> None:
    volume = host.backend.make("vol")
    host.backend.record_format(volume, base.Formatted.DONE)
    with pytest.raises(errors.NotReadyError, match="none is found there now"):
        host.volumes().stage(host.stage(volume))
    assert not any(host.backend.file(volume).read_bytes())


def test_a_volume_that_is_larger_than_its_filesystem_is_filled_when_it_is_staged(
    host: device_host.DeviceHost,
) -> None:
    volume = host.backend.make("vol", 32)
    host.volumes().stage(host.stage(volume))
    before = sizes(host, volume)
    host.volumes().unstage(volume, host.kubelet / "staged")
    os.truncate(host.backend.file(volume), 64 << 20)
    host.volumes().stage(host.stage(volume))
    assert sizes(host, volume) > 1.8 * before


@pytest.mark.parametrize(("fs_type", "mebibytes"), [("ext4", 32), ("xfs", 320)])
def test_a_volume_grows_while_it_is_used_or_says_when_it_will(
    host: device_host.DeviceHost, fs_type: str, mebibytes: int
) -> None:
    volume = host.backend.make("vol", mebibytes)
    host.volumes().stage(host.stage(volume, fs_type=fs_type))
    before = sizes(host, volume)
    with pytest.raises(errors.NotReadyError, match="let the controller grow it first"):
        host.volumes().expand(expand_request(host, volume, mebibytes << 21))
    os.truncate(host.backend.file(volume), mebibytes << 21)
    if fs_type == "xfs" or linux.may_resize_mounted_ext4():
        for _ in range(2):
            assert host.volumes().expand(expand_request(host, volume, mebibytes << 21)) == mebibytes << 21
        assert sizes(host, volume) > 1.8 * before
    else:
        with pytest.raises(errors.VolumeInUseError, match="when it is staged again"):
            host.volumes().expand(expand_request(host, volume, mebibytes << 21))


def test_a_clone_of_an_xfs_volume_is_mounted_beside_its_source(host: device_host.DeviceHost) -> None:
    source, clone = host.backend.make("source", 320), model.VolumeId("clone")
    host.volumes().stage(host.stage(source, fs_type="xfs"))
    host.volumes().unstage(source, host.kubelet / "staged")
    host.backend.file(clone).write_bytes(host.backend.file(source).read_bytes())
    host.volumes().stage(host.stage(source, fs_type="xfs"))
    host.volumes().stage(host.stage(clone, fs_type="xfs", at="clone"))
    assert (host.kubelet / "clone").is_mount()


def test_a_volume_is_staged_at_one_place_only(host: device_host.DeviceHost) -> None:
    volume = host.backend.make("vol")
    host.volumes().stage(host.stage(volume))
    with pytest.raises(errors.VolumeInUseError, match="/staged already"):
        host.volumes().stage(host.stage(volume, at="other"))
    assert not (host.kubelet / "other").exists()


def test_a_volume_that_a_pod_uses_cannot_be_unstaged(host: device_host.DeviceHost) -> None:
    volume = host.backend.make("vol")
    host.volumes().stage(host.stage(volume))
    host.volumes().publish(host.publish(volume))
    with pytest.raises(errors.VolumeInUseError, match="/pod-1 still"):
        host.volumes().unstage(volume, host.kubelet / "staged")
    assert (host.kubelet / "staged").is_mount()


def test_a_reader_gets_a_device_that_takes_no_writes(host: device_host.DeviceHost) -> None:
    volume = host.backend.make("vol")
    host.volumes().stage(host.stage(volume))
    host.volumes().unstage(volume, host.kubelet / "staged")
    host.volumes().stage(host.stage(volume, mode=MODES.MULTI_NODE_READER_ONLY))
    host.volumes().publish(host.publish(volume, mode=MODES.MULTI_NODE_READER_ONLY))
    device = host.backend.device(volume)
    assert device is not None
    assert not devices.is_writable(device)
    assert device_host.read_only(host.kubelet / "pod-1")


def test_an_empty_volume_is_not_given_to_a_reader(host: device_host.DeviceHost) -> None:
    volume = host.backend.make("vol")
    with pytest.raises(errors.NotReadyError, match="empty and can only be read"):
        host.volumes().stage(host.stage(volume, mode=MODES.MULTI_NODE_READER_ONLY))


def test_a_pod_that_asks_to_read_only_gets_just_that(host: device_host.DeviceHost) -> None:
    volume = host.backend.make("vol")
    host.volumes().stage(host.stage(volume, flags=("noatime,data=ordered",)))
    host.volumes().publish(host.publish(volume, read_only=True))
    assert device_host.read_only(host.kubelet / "pod-1")
    assert not device_host.read_only(host.kubelet / "staged")
    assert "noatime" in mountinfo.mounts_at(host.kubelet / "staged")[0].options


def test_a_raw_volume_is_its_device_at_the_target(host: device_host.DeviceHost) -> None:
    volume = host.backend.make("vol")
    request = host.publish(volume, capability=device_host.BLOCK)
    for _ in range(2):
        host.volumes().stage(host.stage(volume, capability=device_host.BLOCK))
        host.volumes().publish(request)
    assert stat.S_ISBLK(request.target.stat().st_mode)
    with request.target.open("r+b", buffering=0) as device:
        device.write(b"raw" * 512)
        os.fsync(device.fileno())
    assert host.backend.file(volume).read_bytes()[:3] == b"raw"
    assert host.volumes().usage(volume, request.target).total == 32 << 20
    with pytest.raises(errors.VolumeInUseError, match="/pod-1 still"):
        host.volumes().unstage(volume, host.kubelet / "staged")
    for _ in range(2):
        host.volumes().unpublish(volume, request.target)
        host.volumes().unstage(volume, host.kubelet / "staged")
    assert not request.target.exists()
    assert host.backend.device(volume) is None


def test_a_raw_volume_grows_while_it_is_used(host: device_host.DeviceHost) -> None:
    volume = host.backend.make("vol")
    host.volumes().stage(host.stage(volume, capability=device_host.BLOCK))
    host.volumes().publish(host.publish(volume, capability=device_host.BLOCK))
    os.truncate(host.backend.file(volume), 64 << 20)
    target = host.kubelet / "pod-1"
    request = requests.ExpandRequest(
        volume_id=volume, path=target, staging=None, size=model.SizeRange(64 << 20), capability=None
    )
    assert host.volumes().expand(request) == 64 << 20
    assert host.volumes().usage(volume, target).total == 64 << 20


def test_a_volume_that_is_not_staged_cannot_be_published(host: device_host.DeviceHost) -> None:
    volume = host.backend.make("vol")
    with pytest.raises(errors.NotReadyError, match="stage it first"):
        host.volumes().publish(host.publish(volume))


def test_a_broken_device_is_attached_anew(host: device_host.DeviceHost) -> None:
    volume = host.backend.make("vol")
    host.volumes().stage(host.stage(volume))
    restarted = device_volumes.DeviceVolumes(host.backend)
    host.backend.broken = "its daemon is dead"
    assert restarted.condition(volume, host.kubelet / "staged").abnormal
    restarted.stage(host.stage(volume))
    assert not restarted.condition(volume, host.kubelet / "staged").abnormal
    assert len(mountinfo.mounts_at(host.kubelet / "staged")) == 1


def test_a_broken_device_is_not_replaced_under_a_pod(host: device_host.DeviceHost) -> None:
    volume = host.backend.make("vol")
    host.volumes().stage(host.stage(volume))
    host.volumes().publish(host.publish(volume))
    host.backend.broken = "its daemon is dead"
    with pytest.raises(errors.VolumeInUseError, match="end the Pod that uses it"):
        device_volumes.DeviceVolumes(host.backend).stage(host.stage(volume))
    assert (host.kubelet / "pod-1").is_mount()


def test_a_volume_that_is_staged_for_writing_is_not_staged_for_reading(host: device_host.DeviceHost) -> None:
    volume = host.backend.make("vol")
    host.volumes().stage(host.stage(volume))
    with pytest.raises(errors.VolumeExistsError, match="as writable ext4"):
        host.volumes().stage(host.stage(volume, mode=MODES.MULTI_NODE_READER_ONLY))


def test_something_else_at_the_staging_path_is_left_there(host: device_host.DeviceHost) -> None:
    volume = host.backend.make("vol")
    (host.kubelet / "staged").mkdir()
    mounts.tmpfs(host.kubelet / "staged")
    with pytest.raises(errors.VolumeExistsError, match="something else"):
        host.volumes().stage(host.stage(volume))
    assert mountinfo.mounts_at(host.kubelet / "staged")[-1].fs_type == "tmpfs"


def test_a_pod_of_its_own_is_the_only_one(host: device_host.DeviceHost) -> None:
    one_pod = MODES.SINGLE_NODE_SINGLE_WRITER
    block = model.Capability(access_mode=one_pod, access_type=model.AccessType.BLOCK)
    files, raw = host.backend.make("files"), host.backend.make("raw")
    host.volumes().stage(host.stage(files))
    host.volumes().publish(host.publish(files, mode=one_pod))
    host.volumes().stage(host.stage(raw, capability=block, at="raw"))
    host.volumes().publish(host.publish(raw, capability=block, at="raw-1"))
    with pytest.raises(errors.VolumeInUseError, match="/pod-1 already"):
        host.volumes().publish(host.publish(files, mode=one_pod, at="pod-2"))
    with pytest.raises(errors.VolumeInUseError, match="/raw-1 already"):
        host.volumes().publish(host.publish(raw, capability=block, at="raw-2"))


def test_a_writable_device_is_not_said_to_be_read_only(host: device_host.DeviceHost) -> None:
    volume = host.backend.make("vol")
    host.volumes().stage(host.stage(volume, capability=device_host.BLOCK))
    with pytest.raises(errors.InvalidRequestError, match="ReadOnlyMany"):
        host.volumes().publish(host.publish(volume, capability=device_host.BLOCK, read_only=True))


def test_a_file_at_the_target_that_is_not_ours_is_kept(host: device_host.DeviceHost) -> None:
    volume = host.backend.make("vol")
    (host.kubelet / "pod-1").write_text("somebody's")
    with pytest.raises(errors.BackendUnavailableError, match="never removed automatically"):
        host.volumes().unpublish(volume, host.kubelet / "pod-1")
    assert (host.kubelet / "pod-1").read_text() == "somebody's"


def test_a_staging_path_that_is_a_symlink_is_refused(host: device_host.DeviceHost) -> None:
    volume = host.backend.make("vol")
    (host.kubelet / "elsewhere").mkdir()
    (host.kubelet / "staged").symlink_to(host.kubelet / "elsewhere")
    with pytest.raises(errors.InvalidRequestError, match="symlink"):
        host.volumes().stage(host.stage(volume))
    assert not (host.kubelet / "elsewhere").is_mount()


@pytest.mark.parametrize("options", ["-l/etc/passwd", "/dev/sda", "-J device=/dev/sda", "-E offset=4096", "-F", "-m"])
def test_mkfs_options_that_are_none_are_refused_before_anything_is_attached(
    host: device_host.DeviceHost, options: str
) -> None:
    volume = host.backend.make("vol")
    with pytest.raises(errors.InvalidRequestError, match="mkfsOptions"):
        host.volumes().stage(host.stage(volume, mkfs=options))
    assert host.backend.device(volume) is None


def test_mkfs_options_shape_the_filesystem(host: device_host.DeviceHost) -> None:
    volume = host.backend.make("vol")
    host.volumes().stage(host.stage(volume, mkfs="-N 64 -Ostable_inodes"))
    assert host.volumes().usage(volume, host.kubelet / "staged").inodes_total < 1000


def test_a_filesystem_for_several_writers_is_refused(host: device_host.DeviceHost) -> None:
    volume = host.backend.make("vol")
    with pytest.raises(errors.InvalidRequestError, match="cannot be ReadWriteMany"):
        host.volumes().stage(host.stage(volume, mode=MODES.MULTI_NODE_MULTI_WRITER))


def test_a_volume_elsewhere_is_not_found_at_a_path(host: device_host.DeviceHost) -> None:
    one, other = host.backend.make("one"), host.backend.make("other")
    host.volumes().stage(host.stage(one))
    for volume, path in ((other, "staged"), (one, "nowhere")):
        with pytest.raises(errors.VolumeNotFoundError):
            host.volumes().usage(volume, host.kubelet / path)


def test_a_filesystem_with_errors_is_checked_before_it_is_mounted(host: device_host.DeviceHost) -> None:
    volume = host.backend.make("vol")
    host.volumes().stage(host.stage(volume))
    host.volumes().unstage(volume, host.kubelet / "staged")
    mounts.run("debugfs", "-w", "-R", "set_super_value state 2", host.backend.file(volume))
    host.volumes().stage(host.stage(volume))
    with host.backend.file(volume).open("rb") as file:
        file.seek(1024 + 0x3A)
        assert not file.read(1)[0] & 2
