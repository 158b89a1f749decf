"""kill -9 at every step of every change: what is left is no volume, or a whole one, or a deleted one."""

import contextlib
import dataclasses
import datetime
import fcntl
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioner import metrics, model
from provisioner.backends.directory import backend, config
from provisioner.node import mountinfo, publisher, requests
from tests.chaos import dying
from tests.fakes import mounts
from tests.fakes.directory_pools import RWO, request

_PATIENCE = 60


@dataclasses.dataclass(frozen=True)
class Pool:
    """A pool, looked at by a process that was not killed."""

    root: Path
    measured: metrics.Metrics
    backend: backend.DirectoryBackend

    @classmethod
    def open(cls, root: Path) -> "Pool":
        measured = metrics.Metrics()
        made = backend.DirectoryBackend(
            config.DirectoryConfig(
                pools={"fast": root},
                topology_key="t/node",
                node_name="n",
                trash_retention=datetime.timedelta(),
            ),
            measured,
        )
        return cls(root, measured, made)

    def start(self, steps: int, *work: str | Path) -> subprocess.Popen[str]:
        return dying.start("directory_worker", self.root, steps, *work)

    def work(self, steps: int, *work: str | Path) -> tuple[int, list[str]]:
        """Let a process work until it is killed or done. Returns its exit code and the steps it reached."""
        process = self.start(steps, *work)
        said, failed = process.communicate(timeout=_PATIENCE)
        assert process.returncode in {0, -signal.SIGKILL}, failed
        return process.returncode, said.splitlines()

    def killed(self, *work: str | Path) -> Iterator[str]:
        """Let a process be killed at its first step, then one at its second, until one lives to the end."""
        for steps in range(1, 20):
            code, reached = self.work(steps, *work)
            if code == 0:
                return
            yield reached[-1]
        pytest.fail("the work has no end")

    def names(self, place: str) -> list[str]:
        return sorted(entry.name for entry in (self.root / place).iterdir())

    def audit(self) -> None:
        """What is there is whole, and what is promised is what the records say."""
        for name in self.names("volumes"):
            home = self.root / "volumes" / name
            assert json.loads((home / "meta.json").read_text())["id"] == name
            assert (home / "data").stat().st_mode & 0o7777 == 0o2770
        listed = [volume.id.value for volume in self.backend.list(after=None, limit=1000)]
        assert listed == self.names("volumes")
        records = [*self.root.glob("*/*/meta.json")]
        self.backend.probe()
        promised = self.measured.registry.get_sample_value(
            "provisioner_pool_bytes", {"pool": "fast", "state": "promised"}
        )
        assert promised == sum(json.loads(record.read_text())["size"] for record in records)


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    mounts.enter_private_namespace()
    (tmp_path / "disk").mkdir()
    mounts.tmpfs(tmp_path / "disk", "size=64m")
    made = Pool.open(tmp_path / "disk" / "fast")
    made.backend.initialise()
    return made


def test_a_killed_create_leaves_a_whole_volume_or_none_and_can_be_repeated(pool: Pool) -> None:
    reached = []
    for number, step in enumerate(pool.killed("create", "pvc-1")):
        reached.append(step)
        assert len(pool.names("volumes")) == (1 if step == "create.committed" else 0)
        fresh = Pool.open(pool.root)
        fresh.audit()
        fresh.backend.create(request(f"other-{number}"))
        fresh.backend.purge_expired()
        assert fresh.names("staging") == []
        fresh.audit()
        for volume in fresh.backend.list(after=None, limit=10):
            fresh.backend.delete(volume.id)
        fresh.backend.purge_expired()
    assert reached == ["create.reserved", "create.built", "create.synced", "create.committed"]


def test_a_create_that_was_killed_is_finished_by_its_repetition_alone(pool: Pool) -> None:
    for number in range(1, 5):
        code, _ = pool.work(number, "create", f"pvc-{number}")
        assert code == -signal.SIGKILL
        made = pool.backend.create(request(f"pvc-{number}"))
        assert pool.backend.locate(made.id).is_dir()
    assert len(pool.names("volumes")) == 4
    assert pool.names("staging") == []
    pool.audit()


def test_a_killed_delete_loses_nothing_and_can_be_repeated(pool: Pool) -> None:
    made = pool.backend.create(request("pvc-1", size=1000))
    (pool.backend.locate(made.id) / "file").write_text("content")
    reached = []
    for steps in range(1, 4):
        code, said = pool.work(steps, "delete", made.id.value)
        assert code == -signal.SIGKILL
        reached.append(said[-1])
        (kept,) = pool.root.glob("*/*/data/file")
        assert kept.read_text() == "content"
        assert kept.parents[2].name == ("volumes" if said[-1] == "delete.checked" else "trash")
        pool.audit()
        for _ in range(2):
            pool.backend.delete(made.id)
        assert pool.names("volumes") == []
        (trashed,) = (pool.root / "trash").iterdir()
        trashed.rename(pool.root / "volumes" / made.id.value)
    assert reached == ["delete.checked", "delete.trashed", "delete.synced"]


def test_a_killed_purge_goes_on_and_touches_no_other_volume(pool: Pool) -> None:
    kept = pool.backend.create(request("kept"))
    (pool.backend.locate(kept.id) / "file").write_text("content")
    for number in range(4):
        made = pool.backend.create(request(f"pvc-{number}"))
        (pool.backend.locate(made.id) / "file").touch()
        pool.backend.delete(made.id)
    reached = []
    for step in pool.killed("purge"):
        reached.append(step)
        Pool.open(pool.root).audit()
    assert {"purge.emptied", "purge.forgotten"} == set(reached)
    assert pool.names("trash") == []
    assert (pool.backend.locate(kept.id) / "file").read_text() == "content"
    pool.audit()


def test_a_killed_publish_is_never_writable_where_it_should_not_be_and_can_be_repeated(
    pool: Pool, tmp_path: Path
) -> None:
    made, target = pool.backend.create(request()), tmp_path / "pod"
    asked = requests.PublishRequest(volume_id=made.id, target=target, capability=RWO, read_only=True)
    for steps in (1, 2):
        code, said = pool.work(steps, "publish", made.id.value, target)
        assert code == -signal.SIGKILL
        found = mountinfo.mounts_at(target)
        assert len(found) == (1 if said[-1] == "publish.mounted" else 0)
        assert all(mount.read_only for mount in found)
        publisher.Publisher(pool.backend).publish(asked)
        (mount,) = mountinfo.mounts_at(target)
        assert mount.read_only
        publisher.Publisher(pool.backend).unpublish(made.id, target)


def test_a_killed_unpublish_is_finished_by_its_repetition(pool: Pool, tmp_path: Path) -> None:
    made, target = pool.backend.create(request()), tmp_path / "pod"
    node = publisher.Publisher(pool.backend)
    node.publish(requests.PublishRequest(volume_id=made.id, target=target, capability=RWO))
    (target / "file").touch()
    code, said = pool.work(1, "unpublish", made.id.value, target)
    assert (code, said) == (-signal.SIGKILL, ["unpublish.unmounted"])
    node.unpublish(made.id, target)
    assert not target.exists()
    assert (pool.backend.locate(made.id) / "file").exists()


def _fill_at_once(pool: Pool, *workers: tuple[str, int], count: int) -> list[tuple[int, str]]:
    """Let processes make volumes at the same time; returns the exit code and the last word of each."""
    with contextlib.ExitStack() as stack:
        started = [stack.enter_context(pool.start(steps, "fill", name, str(count))) for name, steps in workers]
        for worker in started:
            stack.callback(worker.kill)
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        for worker in started:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        said = [worker.communicate(timeout=_PATIENCE)[0] for worker in started]
        return [(worker.returncode, text.split()[-1]) for worker, text in zip(started, said, strict=True)]


def test_processes_that_create_at_once_never_promise_more_than_there_is(pool: Pool) -> None:
    room = pool.backend.capacity(capabilities=(), parameters={}, topology=None).total
    done = _fill_at_once(pool, ("one", 0), ("two", 0), ("three", 0), count=1000)
    assert [code for code, _ in done] == [0, 0, 0]
    promised = sum(int(text) for _, text in done)
    assert room - 4 * model.MIB <= promised <= room
    assert promised == len(pool.names("volumes")) * model.MIB
    pool.audit()


def test_processes_that_are_killed_while_others_create_leave_the_sum_right(pool: Pool) -> None:
    done = _fill_at_once(pool, ("survivor", 0), ("one", 3), ("two", 10), ("three", 17), count=30)
    assert [code for code, _ in done] == [0, *[-signal.SIGKILL] * 3]
    fresh = Pool.open(pool.root)
    fresh.backend.purge_expired()
    assert fresh.names("staging") == []
    fresh.audit()
    pool.audit()


def test_a_process_that_hangs_with_the_lock_does_not_stop_those_that_look(pool: Pool) -> None:
    made = pool.backend.create(request())
    holder = os.open(pool.root / ".lock", os.O_RDWR)
    try:
        fcntl.flock(holder, fcntl.LOCK_EX)
        assert pool.backend.get(made.id) == made
        assert pool.backend.list(after=None, limit=10) == [made]
        assert pool.backend.locate(made.id).is_dir()
    finally:
        os.close(holder)
