"""The node's records, and the files that a program gets at a cluster with."""

from pathlib import Path

import pytest

from provisioner import errors, model
from provisioner.backends.rbd.attach import access, api, records
from provisioner.backends.rbd.client import api as client_api

VOLUME = model.VolumeId("r1.0a0a0a0a.1.k8s-pvc-1")


def make(kept: records.Records) -> api.Record:
    return api.Record(
        folder=kept.folder(VOLUME),
        volume=VOLUME.value,
        mounter="fuse",
        cluster="prod",
        fsid="f",
        place=client_api.Place("kube", "ns"),
        image="img",
        addresses=("10.0.0.1:0/1",),
    )


def test_a_record_is_read_as_it_was_written_and_gone_when_forgotten(tmp_path: Path) -> None:
    kept = records.Records(tmp_path)
    assert kept.load(VOLUME) is None
    kept.save(make(kept))
    assert records.Records(tmp_path).load(VOLUME) == make(kept)
    for _ in range(2):
        kept.forget(make(kept))
    assert kept.load(VOLUME) is None
    assert not list(tmp_path.iterdir())


def test_a_record_that_is_unreadable_is_not_taken_for_none(tmp_path: Path) -> None:
    kept = records.Records(tmp_path)
    kept.save(make(kept))
    (kept.folder(VOLUME) / "record.json").write_text("{")
    with pytest.raises(errors.BackendUnavailableError, match="is unreadable"):
        kept.load(VOLUME)


def test_a_place_that_is_too_long_for_sockets_is_refused() -> None:
    with pytest.raises(errors.InvalidRequestError, match="too long for unix sockets"):
        records.Records(Path("/" + "a" * 100))


def test_the_key_is_there_only_while_it_is_needed_even_after_a_failure(tmp_path: Path) -> None:
    given = client_api.Credentials(cluster="prod", monitors=("10.0.0.1",), user="app", key="AQB==")
    (tmp_path / "key").write_text("left behind by a process that was killed")

    def start() -> None:
        with access.granted(tmp_path, given) as files:
            assert files.key.read_text() == "AQB=="
            raise KeyError

    with pytest.raises(KeyError):
        start()
    assert not (tmp_path / "key").exists()
