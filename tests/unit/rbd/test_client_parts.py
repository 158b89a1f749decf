"""The client's parts that need no cluster: what is sent, how errors are told apart, and how the binding is found."""

import errno
from importlib import machinery
from pathlib import Path

import pytest

from provisioner import errors as base
from provisioner.backends.rbd.client import binding, errors, translate, wire


def test_a_text_is_its_length_and_its_bytes() -> None:
    assert wire.text("aü") == b"\x03\x00\x00\x00a\xc3\xbc"
    assert wire.read_text(b"\x03\x00\x00\x00a\xc3\xbc") == "aü"


def test_pairs_are_read_as_they_were_written() -> None:
    pairs = {"a": "1", "": "empty key", "c": "", "ü": "x" * 300}

    assert wire.read_pairs(wire.pairs(pairs)) == pairs


def test_strangers_metadata_need_not_be_utf_8() -> None:
    body = b"\x01\x00\x00\x00" + wire.text("key") + b"\x02\x00\x00\x00\xff\x00"

    assert wire.read_pairs(body) == {"key": "\\xff\x00"}


def test_a_size_is_behind_the_order() -> None:
    assert wire.read_size(b"\x16" + (5 * 2**30).to_bytes(8, "little")) == 5 * 2**30


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOENT, errors.ImageNotFoundError),
        (errno.EEXIST, errors.ImageExistsError),
        (errno.EBUSY, errors.ImageBusyError),
        (errno.ENOTEMPTY, errors.ImageHasSnapshotsError),
        (errno.EROFS, errors.ReadOnlyError),
        (errno.EDQUOT, errors.QuotaExceededError),
        (errno.ENOSPC, errors.QuotaExceededError),
        (errno.EINVAL, errors.InvalidImageError),
        (errno.ETIMEDOUT, errors.TimedOutError),
        (errno.ESHUTDOWN, errors.BlocklistedError),
        (errno.EPERM, errors.NotPermittedError),
        (errno.EACCES, errors.NotPermittedError),
        (errno.EIO, errors.ClusterError),
        (None, errors.ClusterError),
    ],
)
def test_each_errno_has_its_class(number: int | None, expected: type[base.ProvisionerError]) -> None:
    error = translate.of("doing it", number)

    assert type(error) is expected
    assert error.message.startswith("doing it failed: ")
    assert type(translate.of("doing it", None if number is None else -number)) is expected


def test_a_call_may_read_an_errno_in_its_own_way() -> None:
    error = translate.of("doing it", errno.ENOENT, {errno.ENOENT: errors.NoSuchSnapshotError})

    assert type(error) is errors.NoSuchSnapshotError


def test_an_unclassified_errno_is_named() -> None:
    assert "EIO" in str(translate.of("doing it", errno.EIO))


def test_a_missing_binding_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(errors.BindingMissingError, match="python3-rbd"):
        binding.module("rbd_of_nowhere", [tmp_path])


def test_a_broken_binding_says_why(tmp_path: Path) -> None:
    suffix = machinery.EXTENSION_SUFFIXES[0]
    (tmp_path / f"rbd_in_pieces{suffix}").write_text("not a library")

    with pytest.raises(errors.BindingMissingError, match="rbd_in_pieces cannot be loaded"):
        binding.module("rbd_in_pieces", [tmp_path])


def test_a_binding_that_does_not_import_by_itself_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rbd_without_library.py").write_text("raise ImportError('librbd.so.1: cannot open')")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(errors.BindingMissingError, match=r"librbd\.so\.1"):
        binding.module("rbd_without_library", [])
