"""Publishing: what a Pod sees at the target path, and what the kubelet is told."""

import os
from pathlib import Path

import pytest

from provisioner import errors, model
from provisioner.node import mountinfo, mounts, publisher, requests
from tests.fakes import mounts as test_mounts
from tests.fakes.directory_pools import RWO, directory_backend
from tests.unit.node import conftest

RWOP = model.AccessMode.SINGLE_NODE_SINGLE_WRITER


def test_the_pod_sees_the_volume_at_the_target(host: conftest.Host) -> None:
    volume = host.volume()
    host.publisher.publish(host.request(volume))
    (host.pods / "pod-1" / "file").write_text("content")
    assert (host.backend.locate(volume) / "file").read_text() == "content"


def test_publishing_again_changes_nothing(host: conftest.Host) -> None:
    request = host.request(host.volume())
    host.publisher.publish(request)
    publisher.Publisher(host.backend).publish(request)
    assert len(mountinfo.mounts_at(request.target)) == 1


def test_a_volume_made_anew_by_a_restart_is_not_published_twice(host: conftest.Host) -> None:
    request = host.request(host.volume())
    host.publisher.publish(request)
    host.publisher.unpublish(request.volume_id, request.target)
    host.publisher.publish(request)
    assert len(mountinfo.mounts_at(request.target)) == 1


def test_several_pods_of_the_node_may_use_a_read_write_once_volume(host: conftest.Host) -> None:
    volume = host.volume()
    host.publisher.publish(host.request(volume, "pod-1"))
    host.publisher.publish(host.request(volume, "pod-2"))
    (host.pods / "pod-1" / "file").touch()
    assert (host.pods / "pod-2" / "file").exists()


def test_a_second_pod_may_not_use_a_read_write_once_pod_volume(host: conftest.Host) -> None:
    volume = host.volume(capability=model.Capability(access_mode=RWOP))
    host.publisher.publish(host.request(volume, "pod-1", mode=RWOP))
    with pytest.raises(errors.VolumeInUseError, match="pod-1"):
        host.publisher.publish(host.request(volume, "pod-2", mode=RWOP))
    assert [*mountinfo.mounts_at(host.pods / "pod-2")] == []
    host.publisher.publish(host.request(volume, "pod-1", mode=RWOP))


def test_a_read_write_once_pod_volume_is_free_when_its_pod_has_gone(host: conftest.Host) -> None:
    volume = host.volume(capability=model.Capability(access_mode=RWOP))
    host.publisher.publish(host.request(volume, "pod-1", mode=RWOP))
    host.publisher.unpublish(volume, host.pods / "pod-1")
    host.publisher.publish(host.request(volume, "pod-2", mode=RWOP))


@pytest.mark.parametrize(
    "changed",
    [
        {"read_only": True},
        {"mode": model.AccessMode.SINGLE_NODE_READER_ONLY},
        {"mode": model.AccessMode.MULTI_NODE_READER_ONLY},
        {"flags": ("ro",)},
    ],
)
def test_a_read_only_volume_cannot_be_written(host: conftest.Host, changed: dict[str, object]) -> None:
    volume = host.volume()
    (host.backend.locate(volume) / "file").write_text("content")
    host.publisher.publish(host.request(volume, **changed))  # type: ignore[arg-type]
    assert (host.pods / "pod-1" / "file").read_text() == "content"
    for write in ((host.pods / "pod-1" / "new").touch, (host.pods / "pod-1" / "file").unlink):
        with pytest.raises(OSError, match="Read-only"):
            write()
    (host.backend.locate(volume) / "new").touch()


def test_a_writable_volume_is_not_made_read_only_by_a_second_reader(host: conftest.Host) -> None:
    volume = host.volume()
    host.publisher.publish(host.request(volume, "pod-1"))
    host.publisher.publish(host.request(volume, "pod-2", read_only=True))
    (host.pods / "pod-1" / "file").touch()
    assert (host.pods / "pod-2" / "file").exists()


@pytest.mark.parametrize("changed", [{"read_only": True}, {"flags": ("noexec",)}])
def test_the_same_target_with_other_options_is_refused(host: conftest.Host, changed: dict[str, object]) -> None:
    volume = host.volume()
    host.publisher.publish(host.request(volume))
    with pytest.raises(errors.VolumeExistsError):
        host.publisher.publish(host.request(volume, **changed))  # type: ignore[arg-type]
    (host.pods / "pod-1" / "file").touch()


def test_another_volume_at_the_same_target_is_refused(host: conftest.Host) -> None:
    host.publisher.publish(host.request(host.volume("one")))
    with pytest.raises(errors.VolumeExistsError):
        host.publisher.publish(host.request(host.volume("two")))


def test_mount_options_are_the_mount_s(host: conftest.Host) -> None:
    request = host.request(host.volume(), flags=("nosuid", "nodev,noexec", "noatime"))
    host.publisher.publish(request)
    (mount,) = mountinfo.mounts_at(request.target)
    assert mount.options >= {"nosuid", "nodev", "noexec", "noatime", "rw"}
    host.publisher.publish(request)


def test_strict_access_times_can_be_had_again_and_again(host: conftest.Host) -> None:
    request = host.request(host.volume(), flags=("strictatime",))
    host.publisher.publish(request)
    (mount,) = mountinfo.mounts_at(request.target)
    assert not mount.options & {"relatime", "noatime"}
    host.publisher.publish(request)


@pytest.mark.parametrize("flag", ["discard", "subvol=secret", "bind", "remount", "-o", ""])
def test_an_option_that_a_directory_cannot_have_is_refused_by_name(host: conftest.Host, flag: str) -> None:
    request = host.request(host.volume(), flags=("ro", flag))
    if not flag:
        host.publisher.publish(request)
        return
    with pytest.raises(errors.InvalidRequestError, match=flag.partition("=")[0]) as caught:
        host.publisher.publish(request)
    assert "secret" not in str(caught.value)
    assert not request.target.exists()


def test_a_block_volume_is_refused(host: conftest.Host) -> None:
    block = model.Capability(access_mode=RWOP, access_type=model.AccessType.BLOCK)
    with pytest.raises(errors.InvalidRequestError, match="Filesystem"):
        host.publisher.publish(
            requests.PublishRequest(volume_id=host.volume(), target=host.pods / "a", capability=block)
        )


def test_an_unknown_volume_is_not_found_and_leaves_no_target(host: conftest.Host) -> None:
    with pytest.raises(errors.VolumeNotFoundError):
        host.publisher.publish(host.request(model.VolumeId("no-such-volume")))
    assert [*host.pods.iterdir()] == []


def test_the_target_is_made_for_root_only(host: conftest.Host) -> None:
    volume = host.volume()
    host.publisher.publish(host.request(volume))
    test_mounts.unmount(host.pods / "pod-1")
    assert (host.pods / "pod-1").stat().st_mode & 0o777 == 0o750


def test_a_target_without_parent_is_refused(host: conftest.Host) -> None:
    with pytest.raises(errors.InvalidRequestError, match="parent"):
        host.publisher.publish(host.request(host.volume(), "missing/pod-1"))


@pytest.mark.parametrize("kind", ["symlink", "dangling", "file"])
def test_a_target_that_is_no_directory_is_refused(host: conftest.Host, tmp_path: Path, kind: str) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    target = host.pods / "pod-1"
    if kind == "file":
        target.write_text("mine")
    else:
        target.symlink_to(victim if kind == "symlink" else tmp_path / "nothing")
    volume = host.volume()
    with pytest.raises(errors.InvalidRequestError, match="file" if kind == "file" else "symlink"):
        host.publisher.publish(host.request(volume))
    with pytest.raises(errors.InvalidRequestError, match="file" if kind == "file" else "symlink"):
        host.publisher.unpublish(volume, target)
    assert [*mountinfo.mounts_at(victim)] == []
    assert os.path.lexists(target)


def test_a_volume_whose_data_was_swapped_for_a_symlink_is_not_published(host: conftest.Host, tmp_path: Path) -> None:
    volume = host.volume()
    data = host.backend.locate(volume)
    data.rename(data.with_name("elsewhere"))
    data.symlink_to(tmp_path)
    with pytest.raises(errors.VolumeQuarantinedError):
        host.publisher.publish(host.request(volume))
    assert [*mountinfo.mounts_at(host.pods / "pod-1")] == []


def test_a_volume_that_is_swapped_after_it_was_located_is_not_published(host: conftest.Host, tmp_path: Path) -> None:
    class Swapping:
        """Gives a path that becomes a symlink as soon as it was told."""

        def __init__(self) -> None:
            self.topology, self.usage = host.backend.topology, host.backend.usage

        def locate(self, volume_id: model.VolumeId) -> Path:
            data = host.backend.locate(volume_id)
            data.rename(data.with_name("elsewhere"))
            data.symlink_to(tmp_path)
            return data

    volume = host.volume()
    with pytest.raises(errors.BackendUnavailableError):
        publisher.Publisher(Swapping()).publish(host.request(volume))
    assert [*mountinfo.mounts_at(host.pods / "pod-1")] == []


def test_a_volume_that_is_deleted_while_it_is_published_is_taken_back(host: conftest.Host) -> None:
    volume = host.volume()

    def delete(step: str) -> None:
        if step == "publish.prepared":
            host.backend.delete(volume)

    with pytest.raises(errors.VolumeNotFoundError):
        publisher.Publisher(host.backend, steps=delete).publish(host.request(volume))
    assert [*mountinfo.mounts_at(host.pods / "pod-1")] == []


def test_what_is_mounted_in_the_volume_on_the_host_is_not_shown_to_the_pod(
    host: conftest.Host,
) -> None:
    volume = host.volume()
    inner = host.backend.locate(volume) / "inner"
    inner.mkdir()
    test_mounts.tmpfs(inner)
    (inner / "hidden").touch()
    host.publisher.publish(host.request(volume))
    assert [*(host.pods / "pod-1" / "inner").iterdir()] == []


def test_a_mount_reaches_the_host_through_a_shared_kubelet_directory(host: conftest.Host, tmp_path: Path) -> None:
    volume = host.volume()
    test_mounts.run("mount", "--make-shared", tmp_path / "kubelet")
    (tmp_path / "host").mkdir()
    test_mounts.bind(tmp_path / "kubelet", tmp_path / "host")
    host.publisher.publish(host.request(volume))
    (host.pods / "pod-1" / "file").touch()
    assert (tmp_path / "host" / "pods" / "pod-1" / "file").exists()
    host.publisher.unpublish(volume, host.pods / "pod-1")
    assert [*(tmp_path / "host" / "pods").iterdir()] == []


def test_a_volume_is_kept_apart_from_the_pool_s_peers(host: conftest.Host, tmp_path: Path) -> None:
    test_mounts.run("mount", "--make-shared", tmp_path / "disk")
    volume = host.volume()
    host.publisher.publish(host.request(volume))
    inner = host.pods / "pod-1" / "inner"
    inner.mkdir()
    test_mounts.tmpfs(inner)
    assert [*mountinfo.mounts_at(host.backend.locate(volume) / "inner")] == []


def test_unpublishing_removes_the_mount_and_the_target_but_no_data(host: conftest.Host) -> None:
    volume = host.volume()
    host.publisher.publish(host.request(volume))
    (host.pods / "pod-1" / "file").touch()
    host.publisher.unpublish(volume, host.pods / "pod-1")
    assert not (host.pods / "pod-1").exists()
    assert (host.backend.locate(volume) / "file").exists()


def test_unpublishing_what_is_not_there_is_no_error(host: conftest.Host) -> None:
    volume = host.volume()
    host.publisher.unpublish(volume, host.pods / "pod-1")
    host.publisher.unpublish(volume, host.pods / "missing" / "pod-1")
    (host.pods / "pod-1").mkdir()
    host.publisher.unpublish(volume, host.pods / "pod-1")
    assert not (host.pods / "pod-1").exists()


def test_a_pod_can_leave_when_its_volume_s_pool_is_gone(host: conftest.Host, tmp_path: Path) -> None:
    volume = host.volume()
    host.publisher.publish(host.request(volume))
    test_mounts.run("umount", "-l", tmp_path / "disk")
    host.publisher.unpublish(volume, host.pods / "pod-1")
    assert not (host.pods / "pod-1").exists()


def test_files_below_the_mount_are_never_removed(host: conftest.Host) -> None:
    volume = host.volume()
    (host.pods / "pod-1").mkdir()
    (host.pods / "pod-1" / "precious").touch()
    host.publisher.publish(host.request(volume))
    with pytest.raises(errors.BackendUnavailableError, match="files"):
        host.publisher.unpublish(volume, host.pods / "pod-1")
    assert (host.pods / "pod-1" / "precious").exists()


def test_a_stack_of_mounts_is_taken_down_whole(host: conftest.Host) -> None:
    volume = host.volume()
    host.publisher.publish(host.request(volume))
    test_mounts.bind(host.backend.locate(volume), host.pods / "pod-1")
    host.publisher.unpublish(volume, host.pods / "pod-1")
    assert [*mountinfo.mounts_at(host.pods / "pod-1")] == []


def test_a_process_that_works_in_the_volume_keeps_it_mounted(host: conftest.Host) -> None:
    volume = host.volume()
    host.publisher.publish(host.request(volume))
    fd = os.open(host.pods / "pod-1", os.O_RDONLY)
    try:
        with pytest.raises(errors.VolumeInUseError, match="process"):
            host.publisher.unpublish(volume, host.pods / "pod-1")
    finally:
        os.close(fd)
    host.publisher.unpublish(volume, host.pods / "pod-1")


def test_a_mount_that_a_pod_left_in_the_volume_is_named(host: conftest.Host) -> None:
    volume = host.volume()
    host.publisher.publish(host.request(volume))
    inner = host.pods / "pod-1" / "inner"
    inner.mkdir()
    test_mounts.tmpfs(inner)
    with pytest.raises(errors.VolumeInUseError, match=f"something is mounted in it, at {inner}; unmount that"):
        host.publisher.unpublish(volume, host.pods / "pod-1")
    test_mounts.unmount(inner)
    host.publisher.unpublish(volume, host.pods / "pod-1")
    assert not (host.pods / "pod-1").exists()


def test_usage_is_that_of_the_volume_at_the_path(host: conftest.Host) -> None:
    volume = host.volume()
    host.publisher.publish(host.request(volume))
    usage = host.publisher.usage(volume, host.pods / "pod-1")
    assert usage.total == model.MIB


def test_usage_at_a_path_that_is_not_the_volume_is_not_found(host: conftest.Host) -> None:
    volume = host.volume()
    (host.pods / "pod-1").mkdir()
    for path in (host.pods / "pod-1", host.pods / "missing"):
        with pytest.raises(errors.VolumeNotFoundError):
            host.publisher.usage(volume, path)


def test_a_mount_survives_the_publisher(host: conftest.Host) -> None:
    volume = host.volume()
    host.publisher.publish(host.request(volume))
    again = directory_backend(host.backend.locate(volume).parents[3], initialise=False)
    publisher.Publisher(again).publish(host.request(volume))
    (host.pods / "pod-1" / "file").touch()


def _old_kernel(host: conftest.Host) -> publisher.Publisher:
    """As before Linux 5.12: a mount cannot be prepared before it is seen."""
    return publisher.Publisher(host.backend, can_clone=lambda: False)


def test_an_old_kernel_publishes_read_only_just_as_well(host: conftest.Host) -> None:
    request = host.request(host.volume(), read_only=True, flags=("nosuid", "noatime"))
    _old_kernel(host).publish(request)
    _old_kernel(host).publish(request)
    (mount,) = mountinfo.mounts_at(request.target)
    assert mount.options >= {"ro", "nosuid", "noatime"}
    with pytest.raises(OSError, match="Read-only"):
        (request.target / "file").touch()


def test_a_read_only_publish_that_an_old_kernel_left_half_done_is_repaired(host: conftest.Host) -> None:
    request = host.request(host.volume(), read_only=True)
    request.target.mkdir()
    test_mounts.bind(host.backend.locate(request.volume_id), request.target)
    _old_kernel(host).publish(request)
    with pytest.raises(OSError, match="Read-only"):
        (request.target / "file").touch()


def test_a_mount_whose_options_cannot_be_set_is_taken_back(host: conftest.Host) -> None:
    volume = host.volume()
    target = host.pods / "pod-1"
    target.mkdir()
    source = os.open(host.backend.locate(volume), os.O_PATH)
    wrong = os.open(target, os.O_PATH)
    try:
        with pytest.raises(KeyError):
            mounts.bind_in_two_steps(source, wrong, frozenset({"no-such-option"}))
    finally:
        os.close(source)
        os.close(wrong)
    assert [*mountinfo.mounts_at(target)] == []


def test_a_mount_that_the_kernel_refuses_is_said_and_leaves_no_target(host: conftest.Host) -> None:
    def refuse(step: str) -> None:
        raise PermissionError(1, "Operation not permitted")

    volume = host.volume()
    with pytest.raises(errors.BackendUnavailableError, match="Operation not permitted") as caught:
        publisher.Publisher(host.backend, steps=refuse).publish(host.request(volume))
    assert "privileged" in caught.value.remedy
    assert [*host.pods.iterdir()] == []


def test_an_old_kernel_repairs_below_a_kubelet_directory_that_is_a_symlink(host: conftest.Host, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "kubelet")
    volume = host.volume()
    asked = requests.PublishRequest(
        volume_id=volume, target=tmp_path / "link" / "pods" / "pod-1", capability=RWO, read_only=True
    )
    asked.target.mkdir()
    test_mounts.bind(host.backend.locate(volume), asked.target)
    _old_kernel(host).publish(asked)
    (mount,) = mountinfo.mounts_at(host.pods / "pod-1")
    assert mount.read_only
    host.publisher.publish(asked)
    host.publisher.unpublish(volume, asked.target)
