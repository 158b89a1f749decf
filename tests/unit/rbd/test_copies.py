"""Growth, snapshots and copies where something goes wrong; what goes well is in the suites of every backend."""

import pytest

from provisioner import errors, model
from provisioner.backends.rbd.client import api
from provisioner.backends.rbd.client import errors as client_errors
from tests.fakes import rbd_state
from tests.unit.rbd.conftest import Pool, request
from tests.unit.rbd.test_create import end_process


def taking(of: model.Volume, name: str = "snap-1") -> model.SnapshotRequest:
    return model.SnapshotRequest(name=name, source=of.id)


@pytest.mark.parametrize("step", ["claim_note:done", "create_snapshot", "create_snapshot:done", "set_metadata:done"])
def test_a_snapshot_that_was_killed_is_finished_by_the_next_call(pool: Pool, step: str) -> None:
    made = pool.backend.create(request())
    pool.ceph.faults.kill(step)
    with pytest.raises(rbd_state.Killed):
        pool.backend.create_snapshot(taking(made))
    taken = pool.open().create_snapshot(taking(made))
    assert [one.name for one in pool.image("k8s-pvc-1").snapshots] == ["snap-1"]
    assert list(pool.backend.list_snapshots(source=None, after=None, limit=9)) == [taken]


@pytest.mark.parametrize("step", ["remove_snapshot:done", "remove_metadata:done", "drop_note:done"])
def test_a_removal_that_was_killed_is_finished_by_the_next_call(pool: Pool, step: str) -> None:
    made = pool.backend.create(request())
    taken = pool.backend.create_snapshot(taking(made))
    pool.ceph.faults.kill(step)
    with pytest.raises(rbd_state.Killed):
        pool.backend.delete_snapshot(taken.id)
    pool.open().delete_snapshot(taken.id)
    assert (pool.image("k8s-pvc-1").snapshots, pool.ceph.notes) == ([], {})
    assert list(pool.backend.list_snapshots(source=None, after=None, limit=9)) == []


def test_a_snapshot_that_was_never_answered_is_removed_by_its_id(pool: Pool) -> None:
    made = pool.backend.create(request())
    taken = pool.backend.create_snapshot(taking(made))
    pool.backend.delete_snapshot(taken.id)
    pool.ceph.faults.kill("create_snapshot:done")
    with pytest.raises(rbd_state.Killed):
        pool.backend.create_snapshot(taking(made))
    pool.backend.delete_snapshot(taken.id)
    assert (pool.image("k8s-pvc-1").snapshots, pool.ceph.notes) == ([], {})


def test_a_protected_snapshot_is_in_use(pool: Pool) -> None:
    taken = pool.backend.create_snapshot(taking(pool.backend.create(request())))
    pool.ceph.faults.fail("remove_snapshot", client_errors.SnapshotBusyError("protected"))
    with pytest.raises(errors.SnapshotInUseError, match="protected"):
        pool.backend.delete_snapshot(taken.id)


def test_the_snapshots_of_an_image_are_bounded(pool: Pool) -> None:
    backend = pool.open(snapshot_limit=2)
    made = backend.create(request())
    for name in ("a", "b"):
        backend.create_snapshot(taking(made, name))
    with pytest.raises(errors.InsufficientCapacityError, match="may have 2"):
        backend.create_snapshot(taking(made, "c"))
    with pytest.raises(errors.InsufficientCapacityError, match="may have 2"):
        backend.create(request("copy", source=made.id))
    assert backend.create_snapshot(taking(made, "a")).size == model.MIB


def test_a_snapshot_name_of_an_image_that_is_gone_is_free(pool: Pool) -> None:
    first, second = pool.backend.create(request("first")), pool.backend.create(request("second"))
    pool.backend.create_snapshot(taking(first))
    with pytest.raises(errors.SnapshotExistsError):
        pool.backend.create_snapshot(taking(second))
    pool.ceph.forget(pool.image("k8s-first"))
    assert pool.backend.create_snapshot(taking(second)).source == second.id


def test_a_parameter_of_a_snapshot_class_is_refused(pool: Pool) -> None:
    made = pool.backend.create(request())
    given = model.SnapshotRequest(name="a", source=made.id, parameters={"colour": "blue"})
    with pytest.raises(errors.InvalidParameterError, match="colour"):
        pool.backend.create_snapshot(given)


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize(
    "step", ["create_snapshot:done", "clone", "clone:listed", "clone:made", "clone:done", "remove_snapshot:done"]
)
def test_a_clone_that_was_killed_is_made_anew_and_leaves_nothing(pool: Pool, step: str, size: int) -> None:
    source = pool.backend.create(request("source"))
    wanted = request("copy", source=source.id, size=size * model.MIB)
    pool.ceph.faults.kill(step)
    with pytest.raises(rbd_state.Killed):
        pool.backend.create(wanted)
    assert pool.volumes() == ["k8s-source"]
    assert list(pool.backend.list_snapshots(source=None, after=None, limit=9)) == []
    end_process(pool)
    copy = pool.open().create(wanted)
    assert (copy.size, copy.source) == (size * model.MIB, source.id)
    assert pool.listed() == ["k8s-copy", "k8s-source"]
    pool.backend.delete(copy.id)
    pool.ceph.passing(86401)
    pool.backend.purge_expired()
    assert (pool.image("k8s-source").snapshots, pool.ceph.notes) == ([], {})


@pytest.mark.parametrize("step", ["clone:made", "clone:done", "resize", "resize:done"])
def test_a_restore_into_a_larger_size_is_no_volume_before_it_has_grown(pool: Pool, step: str) -> None:
    taken = pool.backend.create_snapshot(taking(pool.backend.create(request("source"))))
    pool.ceph.faults.kill(step)
    with pytest.raises(rbd_state.Killed):
        pool.backend.create(request("copy", source=taken.id, size=3 * model.MIB))
    assert pool.volumes() == ["k8s-source"]
    end_process(pool)
    assert pool.open().create(request("copy", source=taken.id, size=3 * model.MIB)).size == 3 * model.MIB


def test_a_deep_copy_is_flattened_in_the_background_and_a_deeper_one_waits(pool: Pool) -> None:
    backend = pool.open(depth_limit=1)
    first = backend.create(request("v0"))
    second = backend.create(request("v1", source=first.id))
    third = backend.create(request("v2", source=second.id))
    with pytest.raises(errors.OperationPendingError, match="flattened"):
        backend.create(request("v3", source=third.id))
    backend.purge_expired()
    assert [pool.image(f"k8s-v{number}").parent for number in (1, 2)] == [None, None]
    assert backend.create(request("v3", source=third.id)).size == model.MIB


def test_a_copy_has_what_is_known_of_the_filesystem_and_none_of_the_nodes(pool: Pool) -> None:
    source = pool.backend.create(request("source"))
    pool.image("k8s-source").metadata["provisioner.formatted"] = "done"
    rwo = request().capabilities[0]
    pool.backend.publish(source.id, "node-1", rwo, read_only=False)
    pool.backend.create(request("copy", source=source.id))
    said = pool.metadata("k8s-copy")
    assert said["formatted"] == "done"
    assert "node" not in said


def test_a_source_in_another_cluster_is_refused(pool: Pool) -> None:
    with pytest.raises(errors.VolumeNotFoundError):
        pool.backend.create(request(source=model.VolumeId("r1.00000000.1.k8s-a")))
    with pytest.raises(errors.SnapshotNotFoundError):
        pool.backend.create(request(source=model.SnapshotId(f"s1.00000000.1.abc.{'0' * 24}")))


def test_a_copy_lies_in_the_pool_of_its_class(pool: Pool) -> None:
    pool.ceph.add_pool("fast")
    source = pool.backend.create(request("source"))
    copy = pool.backend.create(request("copy", source=source.id, parameters={"pool": "fast"}))
    assert pool.ceph.image(api.Place("fast"), "k8s-copy").parent is not None
    assert copy.context["pool"] == "fast"


def test_growing_is_recorded_for_the_trash(pool: Pool) -> None:
    made = pool.backend.create(request())
    pool.backend.expand(made.id, model.SizeRange(5 * model.MIB + 1))
    assert (pool.image("k8s-pvc-1").size, pool.metadata("k8s-pvc-1")["size"]) == (6 * model.MIB, str(6 * model.MIB))


def test_a_size_between_mebibytes_and_the_limit_is_out_of_range(pool: Pool) -> None:
    made = pool.backend.create(request())
    with pytest.raises(errors.SizeOutOfRangeError, match="mebibytes"):
        pool.backend.expand(made.id, model.SizeRange(model.MIB + 1, model.MIB + 2))


def test_a_full_pool_is_a_condition_of_its_volumes(pool: Pool) -> None:
    made = pool.backend.create(request())
    assert pool.backend.condition(made.id) == model.HEALTHY
    pool.ceph.quotas["kube"] = pool.ceph.used["kube"] = model.MIB
    condition = pool.open().condition(made.id)
    assert condition.abnormal
    assert "kube is full" in condition.message


def test_a_snapshot_that_is_gone_brings_no_deleted_volume_back(pool: Pool) -> None:
    made = pool.backend.create(request())
    taken = pool.backend.create_snapshot(taking(made))
    pool.backend.delete(made.id)
    pool.backend.delete_snapshot(taken.id)
    before = (pool.listed(), pool.trashed())
    with pytest.raises(errors.SnapshotNotFoundError):
        pool.backend.create(request("restored", source=taken.id))
    assert (pool.listed(), pool.trashed()) == before


def test_a_pools_number_has_one_spelling(pool: Pool) -> None:
    made = pool.backend.create(request())
    with pytest.raises(errors.VolumeNotFoundError):
        pool.backend.get(model.VolumeId(str(made.id).replace(".1.", ".01.")))
