"""Reading mountinfo: which directory of which filesystem is shown where."""

import errno
import os
from pathlib import Path

import pytest

from provisioner.node import mountinfo
from tests.fakes import mounts


def test_a_line_is_read_with_its_escapes() -> None:
    line = r"36 35 98:0 /mnt\0401 /pods/a\040b\134c\011d rw,noatime master:1 - ext3 /dev/root rw,errors=continue"
    assert mountinfo.parse(line) == mountinfo.Mount(
        id=36,
        parent=35,
        device="98:0",
        root="/mnt 1",
        mount_point="/pods/a b\\c\td",
        options=frozenset({"rw", "noatime"}),
        fs_type="ext3",
    )


def test_a_line_may_have_any_number_of_optional_fields() -> None:
    for optional in ("", "shared:1 ", "shared:2 master:1 propagate_from:3 unbindable "):
        line = f"36 35 98:0 / /a ro {optional}- tmpfs none rw"
        assert mountinfo.parse(line).fs_type == "tmpfs"
        assert mountinfo.parse(line).read_only


@pytest.mark.parametrize(
    ("root", "shown"), [("/v/a", True), ("/v/a/sub", True), ("/v/ab", False), ("/v", False), ("/", False)]
)
def test_a_mount_shows_a_directory_and_those_below(root: str, shown: bool) -> None:
    line = f"36 35 98:0 {root} /a ro - tmpfs none rw"
    assert mountinfo.parse(line).shows("98:0", "/v/a") is shown
    assert not mountinfo.parse(line).shows("98:1", "/v/a")


def test_a_bind_mount_within_one_filesystem_is_seen(tmp_path: Path) -> None:
    mounts.enter_private_namespace()
    mounts.tmpfs(tmp_path)
    source, target = tmp_path / "sour ce", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    mounts.bind(source, target)
    assert not os.path.ismount(target)
    assert [mount.root for mount in mountinfo.mounts_at(target)] == ["/sour ce"]
    fd = os.open(source, os.O_PATH)
    try:
        assert [mount.mount_point for mount in mountinfo.mounts_of(fd)] == [str(target)]
        assert mountinfo.filesystem_path(fd, mountinfo.mount_of(fd)) == "/sour ce"
    finally:
        os.close(fd)
    mounts.unmount(target)
    mounts.unmount(tmp_path)


def test_a_table_may_hold_names_that_are_not_utf8(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_bytes(b"36 35 98:0 / /a\xff ro - tmpfs none rw\n")
    assert [os.fsencode(mount.mount_point) for mount in mountinfo.mounts(table=table)] == [b"/a\xff"]


@pytest.mark.parametrize("character", ["\r", "\v", "\f", "\x1c", "\x85", "\u2028"])
def test_a_directory_name_cannot_break_a_line(tmp_path: Path, character: str) -> None:
    table = tmp_path / "mountinfo"
    table.write_bytes(f"36 35 98:0 /v/a{character}b /pods/1 ro - tmpfs none rw\n".encode())
    (mount,) = mountinfo.mounts(table=table)
    assert (f"/v/a{character}b", "/pods/1") == (mount.root, mount.mount_point)


def test_a_mount_that_is_gone_is_an_error_of_the_system(tmp_path: Path) -> None:
    mounts.enter_private_namespace()
    mounts.tmpfs(tmp_path)
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        mounts.run("umount", "--lazy", tmp_path)
        with pytest.raises(OSError, match="is gone") as caught:
            mountinfo.mount_of(fd)
    finally:
        os.close(fd)
    assert caught.value.errno == errno.ESTALE
