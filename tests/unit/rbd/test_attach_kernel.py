"""krbd and rbd-nbd, over a sysfs and a process table made of files: what is asked of the programs, and what is found.

Neither can be run where the kernel has no rbd and no nbd; what is here is what Ceph's manual pages promise.
"""

import os
from pathlib import Path

import pytest

from provisioner import errors
from provisioner.backends.rbd.attach import api, krbd, nbd
from provisioner.backends.rbd.client import api as client_api
from tests.fakes import runner as fake_runner

KEY = "AQBsecret=="
CREDENTIALS = client_api.Credentials(cluster="prod", monitors=("10.0.0.1", "10.0.0.2"), user="kubernetes", key=KEY)


@pytest.fixture
def runner() -> fake_runner.FakeRunner:
    return fake_runner.FakeRunner()


def record(folder: Path, *, fsid: str = "f-1", namespace: str = "ns", read_only: bool = False) -> api.Record:
    made = folder / "volume"
    made.mkdir(exist_ok=True)
    return api.Record(
        folder=made,
        volume="vol",
        mounter="krbd",
        cluster="prod",
        fsid=fsid,
        place=client_api.Place("kube", namespace),
        image="img",
        read_only=read_only,
    )


def write(base: Path, **files: str) -> None:
    base.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (base / name).write_text(f"{content}\n")


def mapped(system: Path, number: str, *, fsid: str = "f-1", image: str = "img") -> None:
    entry = system / "bus/rbd/devices" / number
    write(entry, pool="kube", pool_ns="ns", name=image, current_snap="-", cluster_fsid=fsid)


def run_nbd(proc: Path, number: str, *words: str) -> None:
    (proc / number).mkdir(parents=True)
    (proc / number / "cmdline").write_bytes(b"\0".join(os.fsencode(word) for word in words) + b"\0")


def key_of(words: list[str]) -> str:
    """What the key file held while the program ran."""
    path = Path(next(word.partition("=")[2] for word in words if word.startswith("--keyfile=")))
    assert path.stat().st_mode & 0o777 == 0o600
    return path.read_text()


def test_krbd_maps_with_the_lock_and_hands_the_key_over_in_a_file(
    tmp_path: Path, runner: fake_runner.FakeRunner
) -> None:
    seen = []

    def answer(words: list[str]) -> str:
        seen.append(key_of(words))
        return "/dev/rbd3\n"

    runner.on("rbd", answer)
    attacher = krbd.KrbdAttacher(runner, system=tmp_path / "sys")
    assert attacher.attach(record(tmp_path), CREDENTIALS, "queue_depth=64") == Path("/dev/rbd3")
    (words,) = runner.asked
    assert words[:4] == ["rbd", "device", "map", "kube/ns/img"]
    assert "--options=queue_depth=64,noudev,exclusive" in words
    assert "--id=kubernetes" in words
    assert seen == [KEY]
    assert not any(KEY in word for word in words)
    assert not (tmp_path / "volume/key").exists()
    assert "mon_host = 10.0.0.1,10.0.0.2" in (tmp_path / "volume/ceph.conf").read_text()
    assert KEY not in (tmp_path / "volume/ceph.conf").read_text()


def test_krbd_maps_for_a_reader_without_the_lock(tmp_path: Path, runner: fake_runner.FakeRunner) -> None:
    runner.on("rbd", lambda _words: "/dev/rbd0\n")
    attacher = krbd.KrbdAttacher(runner, system=tmp_path / "sys")
    attacher.attach(record(tmp_path, read_only=True), CREDENTIALS, "")
    assert "--read-only" in runner.asked[0]
    assert "--options=noudev" in runner.asked[0]


def test_krbd_finds_what_is_mapped_and_maps_it_not_again(tmp_path: Path, runner: fake_runner.FakeRunner) -> None:
    mapped(tmp_path / "sys", "0", fsid="another cluster")
    mapped(tmp_path / "sys", "1", image="other")
    attacher = krbd.KrbdAttacher(runner, system=tmp_path / "sys")
    assert attacher.device(record(tmp_path)) is None
    assert attacher.condition(record(tmp_path)).abnormal
    mapped(tmp_path / "sys", "7")
    assert attacher.attach(record(tmp_path), CREDENTIALS, "") == Path("/dev/rbd7")
    assert not attacher.condition(record(tmp_path)).abnormal
    assert runner.asked == []


def test_krbd_unmaps_what_is_mapped_and_nothing_else(tmp_path: Path, runner: fake_runner.FakeRunner) -> None:
    attacher = krbd.KrbdAttacher(runner, system=tmp_path / "sys")
    attacher.detach(record(tmp_path))
    assert runner.asked == []
    mapped(tmp_path / "sys", "7")
    attacher.detach(record(tmp_path))
    assert runner.asked == [["rbd", "device", "unmap", "--options=noudev", "/dev/rbd7"]]


def test_krbd_is_grown_when_the_kernel_shows_it(tmp_path: Path, runner: fake_runner.FakeRunner) -> None:
    mapped(tmp_path / "sys", "7")
    write(tmp_path / "sys/block/rbd7", size="2048")
    krbd.KrbdAttacher(runner, system=tmp_path / "sys").refresh(record(tmp_path), 1 << 20)


@pytest.mark.parametrize("attacher", [krbd.KrbdAttacher, nbd.NbdAttacher])
def test_options_that_are_none_are_refused(
    tmp_path: Path, runner: fake_runner.FakeRunner, attacher: type[krbd.KrbdAttacher | nbd.NbdAttacher]
) -> None:
    with pytest.raises(errors.InvalidRequestError, match="mapOptions"):
        attacher(runner, system=tmp_path / "sys").attach(record(tmp_path), CREDENTIALS, "--keyfile=/etc/shadow")
    assert runner.asked == []


def test_krbd_loads_its_module_once_and_says_where_there_is_none(
    tmp_path: Path, runner: fake_runner.FakeRunner
) -> None:
    attacher = krbd.KrbdAttacher(runner, system=tmp_path / "sys")
    assert attacher.unavailable() == "the kernel has no rbd"
    assert ["modprobe", "rbd"] in runner.asked
    (tmp_path / "sys/bus/rbd").mkdir(parents=True)
    assert attacher.unavailable() == ""
    runner.lacks("rbd")
    assert "rbd is not installed" in attacher.unavailable()


def test_nbd_finds_its_daemon_by_the_volumes_folder(tmp_path: Path, runner: fake_runner.FakeRunner) -> None:
    system, proc, volume = tmp_path / "sys", tmp_path / "proc", record(tmp_path)
    attacher = nbd.NbdAttacher(runner, system=system, proc=proc)
    write(system / "block/nbd0", pid="41")
    write(system / "block/nbd1", pid="42", size="2048")
    run_nbd(proc, "41", "rbd-nbd", "--conf=/elsewhere/ceph.conf")
    run_nbd(proc, "42", "/usr/bin/rbd-nbd", f"--conf={volume.folder}/ceph.conf")
    assert attacher.device(volume) == Path("/dev/nbd1")
    assert not attacher.condition(volume).abnormal
    attacher.refresh(volume, 1 << 20)
    (proc / "42/cmdline").write_bytes(b"")  # It has ended, and its parent has not looked yet.
    assert attacher.device(volume) is None
    assert "has ended" in attacher.condition(volume).message


def test_nbd_maps_with_the_lock_and_hands_the_key_over_in_a_file(
    tmp_path: Path, runner: fake_runner.FakeRunner
) -> None:
    seen = []

    def answer(words: list[str]) -> str:
        seen.append(key_of(words))
        write(tmp_path / "sys/block/nbd0", pid="42")
        run_nbd(tmp_path / "proc", "42", *words)
        return "/dev/nbd0\n"

    runner.on("rbd-nbd", answer)
    attacher = nbd.NbdAttacher(runner, system=tmp_path / "sys", proc=tmp_path / "proc")
    attacher.attach(record(tmp_path, namespace=""), CREDENTIALS, "io-timeout=60")
    (words,) = runner.asked
    assert words[:3] == ["rbd-nbd", "map", "kube/img"]
    assert words[-2:] == ["--io-timeout=60", "--exclusive"]
    assert seen == [KEY]
    assert not (tmp_path / "volume/key").exists()
