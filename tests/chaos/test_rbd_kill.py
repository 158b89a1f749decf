"""kill -9 at every step of every change, on a real Ceph cluster: the next call finishes it, and nothing is left."""

import dataclasses
import itertools
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioner import errors, model
from provisioner.backends import inventory
from provisioner.backends.rbd import backend
from provisioner.backends.rbd.client import api
from tests.chaos import dying, rbd_worker
from tests.fakes import rbd_backend
from tests.harness import ceph as ceph_harness
from tests.harness import process as harness_process

ceph = ceph_harness.ceph
_PATIENCE = 60
_numbers = itertools.count()


@dataclasses.dataclass
class Pool:
    """The pool, looked at by a process that was not killed."""

    real: ceph_harness.CephCluster
    clusters: Path
    instance: str

    def open(self) -> backend.RbdBackend:
        return rbd_worker.open_backend(self.clusters, self.instance)

    def start(self, steps: int, *work: object) -> subprocess.Popen[str]:
        return dying.start("rbd_worker", self.clusters, self.instance, steps, *work)

    def killed(self, *work: object) -> Iterator[str]:
        """Let a process be killed at its first step, then one at its second, until one lives to the end."""
        for steps in range(1, 40):
            process = self.start(steps, *work)
            said, failed = process.communicate(timeout=_PATIENCE)
            assert process.returncode in {0, -signal.SIGKILL}, failed
            if process.returncode == 0:
                return
            yield said.splitlines()[-1]
        pytest.fail("the work has no end")

    def names(self) -> set[str]:
        """The names of all images of this test, in the trash too."""
        listed = self.real.rbd("ls", "kube").split()
        trashed = self.real.rbd("trash", "ls", "kube").split()
        return {name for name in listed + trashed if name.startswith(f"{self.instance}-")}

    def notes(self) -> list[str]:
        """The notes that say that an image is being made."""
        found = self.real.rados("-p", "kube", "ls").split()
        return [name for name in found if f"note.making.{self.instance}-" in name]

    def audit(self, *expected: str) -> None:
        """These volumes are there and no other image of ours, nor a note of one that is being made."""
        fresh = self.open()
        listed = sorted(volume.context["imageName"] for volume in fresh.list(after=None, limit=1000))
        assert listed == sorted(f"{self.instance}-{name}" for name in expected)
        states = {entry.state for entry in fresh.inventory().entries()}
        assert states <= {inventory.State.READY, inventory.State.TRASH}
        assert {name for name in self.real.rbd("ls", "kube").split() if name.startswith(f"{self.instance}-")} == set(
            listed
        )
        # A note goes soon after its image is whole.
        harness_process.wait_until(lambda: not self.notes(), seconds=10, what="the notes to be gone")
        fresh.close()


@pytest.fixture
def pool(ceph: ceph_harness.CephCluster, tmp_path: Path) -> Pool:
    given = api.Credentials(cluster="real", monitors=ceph.monitors, user=ceph_harness.USER, key=ceph.key)
    return Pool(ceph, rbd_backend.write_clusters(tmp_path / "clusters.yaml", given), f"k{next(_numbers)}")


def test_a_killed_create_is_finished_by_the_next_call(pool: Pool) -> None:
    steps = []
    for step in pool.killed("create", "pvc-1", model.MIB):
        steps.append(step)
        fresh = pool.open()
        made = fresh.create(rbd_worker.request("pvc-1", model.MIB))
        pool.audit("pvc-1")
        fresh.delete(made.id)
    assert {"claim_note", "create", "create.ready", "drop_note"} <= set(steps)


@pytest.mark.parametrize("kind", ["snapshot", "volume"])
def test_a_killed_copy_is_finished_by_the_next_call(pool: Pool, kind: str) -> None:
    fresh = pool.open()
    source = fresh.create(rbd_worker.request("source", model.MIB))
    origin = source.id.value
    if kind == "snapshot":
        origin = fresh.create_snapshot(model.SnapshotRequest(name="snap", source=source.id)).id.value
    steps = []
    for step in pool.killed("create", "copy", 3 * model.MIB, origin):
        steps.append(step)
        made = fresh.create(rbd_worker.request("copy", 3 * model.MIB, origin))
        assert made.size == 3 * model.MIB
        pool.audit("source", "copy")
        fresh.delete(made.id)
    assert {"clone", "resize", "set_metadata"} <= set(steps)
    snapshots = [line for line in pool.real.rbd("snap", "ls", f"kube/{pool.instance}-source").splitlines()[1:] if line]
    assert len(snapshots) == (1 if kind == "snapshot" else 0)


def test_a_killed_deletion_is_finished_by_the_next_call(pool: Pool) -> None:
    fresh = pool.open()
    made = fresh.create(rbd_worker.request("pvc-1", model.MIB))
    count = 0
    for _ in pool.killed("delete", made.id):
        fresh.delete(made.id)
        pool.audit()
        count += 1
        assert len([name for name in fresh.inventory().entries() if name.id == made.id]) == count
        made = fresh.create(rbd_worker.request("pvc-1", model.MIB))
    assert count > 1


def test_a_killed_deletion_of_a_volume_with_snapshots_loses_none(pool: Pool) -> None:
    fresh = pool.open()
    for number in itertools.count():
        made = fresh.create(rbd_worker.request(f"pvc-{number}", model.MIB))
        taken = fresh.create_snapshot(model.SnapshotRequest(name=f"snap-{number}", source=made.id))
        process = pool.start(number + 1, "delete", made.id)
        process.communicate(timeout=_PATIENCE)
        fresh.delete(made.id)
        fresh.purge_expired()
        restored = fresh.create(rbd_worker.request(f"copy-{number}", model.MIB, taken.id.value))
        fresh.delete_snapshot(taken.id)
        with pytest.raises(errors.VolumeNotFoundError):
            fresh.get(made.id)
        assert fresh.get(restored.id) == restored
        assert f"{pool.instance}-pvc-{number}" not in pool.real.rbd("ls", "kube").split()
        if process.returncode == 0:
            break
    assert number > 3


def test_a_killed_growth_is_finished_by_the_next_call(pool: Pool) -> None:
    fresh = pool.open()
    for number in itertools.count():
        made = fresh.create(rbd_worker.request(f"pvc-{number}", model.MIB))
        process = pool.start(number + 1, "expand", made.id, 64 * model.MIB)
        process.communicate(timeout=_PATIENCE)
        assert fresh.get(made.id).size in {model.MIB, 64 * model.MIB}
        assert fresh.expand(made.id, model.SizeRange(64 * model.MIB)).size == 64 * model.MIB
        if process.returncode == 0:
            break
    assert number > 1
    pool.audit(*(f"pvc-{each}" for each in range(number + 1)))


def test_a_killed_snapshot_and_its_killed_removal_are_finished_by_the_next_call(pool: Pool) -> None:
    fresh = pool.open()
    made = fresh.create(rbd_worker.request("pvc-1", model.MIB))
    for _ in pool.killed("snapshot", made.id, "snap"):
        taken = fresh.create_snapshot(model.SnapshotRequest(name="snap", source=made.id))
        assert list(fresh.list_snapshots(source=made.id, after=None, limit=9)) == [taken]
        for _ in itertools.islice(pool.killed("delete-snapshot", taken.id), 1):
            fresh.delete_snapshot(taken.id)
        assert pool.real.rbd("snap", "ls", f"kube/{pool.instance}-pvc-1") == ""
    taken = fresh.create_snapshot(model.SnapshotRequest(name="snap", source=made.id))
    for _ in pool.killed("delete-snapshot", taken.id):
        fresh.delete_snapshot(taken.id)
        assert pool.real.rbd("snap", "ls", f"kube/{pool.instance}-pvc-1") == ""
        fresh.create_snapshot(model.SnapshotRequest(name="snap", source=made.id))
    assert pool.real.rbd("snap", "ls", f"kube/{pool.instance}-pvc-1") == ""


def test_creations_that_are_killed_at_any_time_leave_one_image_for_each_name(pool: Pool) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for number in range(6):
        process = pool.start(0, "burst", f"r{number}", 40)
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.stdin.write("go\n")
        process.stdin.flush()
        time.sleep(chance.uniform(0.02, 0.4))  # Not for luck: whenever it is killed, what follows has to hold.
        process.kill()
        process.communicate(timeout=_PATIENCE)
        fresh = pool.open()
        for each in range(40):
            fresh.create(rbd_worker.request(f"r{number}-{each}", model.MIB))
    pool.audit(*(f"r{number}-{each}" for number in range(6) for each in range(40)))


def test_processes_that_create_the_same_names_make_one_image_for_each(pool: Pool) -> None:
    processes = [pool.start(0, "burst", "pvc", 30) for _ in range(2)]
    for process in processes:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        _, failed = process.communicate("go\n", timeout=_PATIENCE)
        assert process.returncode == 0, failed
    pool.audit(*(f"pvc-{number}" for number in range(30)))
