"""How images are made: exactly one for each name, whole, ours, and never one of somebody else."""

import datetime
import json

import pytest

from provisioner import errors, model
from provisioner.backends.rbd import ids, owner
from provisioner.backends.rbd.client import api
from provisioner.backends.rbd.client import errors as client_errors
from tests.fakes import rbd_state
from tests.fakes.directory_pools import ROX, RWO, RWX
from tests.unit.rbd.conftest import PLACE, Pool, request

BLOCK = model.AccessType.BLOCK
STEPS = ["claim_note:done", "create", "create:listed", "create:made", "create:done", "drop_note", "drop_note:done"]


def kill(pool: Pool, step: str, made: model.VolumeRequest) -> None:
    pool.ceph.faults.kill(step)
    with pytest.raises(rbd_state.Killed):
        pool.backend.create(made)
    pool.ceph.faults.mend(step)


def end_process(pool: Pool) -> None:
    """Let what made the notes be a process that has ended."""
    for key, text in pool.ceph.notes.items():
        pool.ceph.notes[key] = json.dumps(json.loads(text) | {"process": "1.0"})


def test_an_image_is_called_as_the_volume_and_says_whose_it_is(pool: Pool) -> None:
    claim = {"csi.storage.k8s.io/pvc/namespace": "shop", "csi.storage.k8s.io/pvc/name": "data-0"}
    pool.backend.create(request("pvc-1", parameters=claim | {"csi.storage.k8s.io/pv/name": "pvc-1"}))
    said = pool.metadata("k8s-pvc-1")
    assert (
        said["name"],
        said["pvc-namespace"],
        said["pvc-name"],
        said["pv-name"],
        said["instance"],
        said["state"],
    ) == (
        "pvc-1",
        "shop",
        "data-0",
        "pvc-1",
        "k8s",
        "ready",
    )


def test_a_context_says_where_the_image_is_and_holds_no_address_user_or_key(pool: Pool) -> None:
    made = pool.backend.create(request(parameters={"mounter": "fuse", "mkfsOptions": "-m0"}))
    assert made.context == {
        "clusterID": "fake",
        "pool": "kube",
        "imageName": "k8s-pvc-1",
        "mounter": "fuse",
        "mkfsOptions": "-m0",
    }


@pytest.mark.parametrize("step", STEPS)
def test_a_create_that_was_killed_is_repaired_by_the_next_call(pool: Pool, step: str) -> None:
    kill(pool, step, request())
    end_process(pool)
    made = pool.open().create(request())
    assert pool.listed() == ["k8s-pvc-1"]
    assert pool.backend.get(made.id) == made
    assert pool.ceph.notes == {}


@pytest.mark.parametrize("step", STEPS)
def test_what_a_killed_create_left_is_no_volume_unless_it_is_whole(pool: Pool, step: str) -> None:
    kill(pool, step, request())
    assert pool.volumes() == (["k8s-pvc-1"] if step in {"create:done", "drop_note", "drop_note:done"} else [])


@pytest.mark.parametrize("step", STEPS[:-1])
def test_what_a_living_process_makes_is_left_alone(pool: Pool, step: str) -> None:
    kill(pool, step, request())
    before = pool.listed()
    if step in {"create:done", "drop_note"}:
        assert pool.open().create(request()).size == model.MIB
    else:
        with pytest.raises(errors.OperationPendingError):
            pool.open().create(request())
    assert pool.listed() == before


def test_a_process_elsewhere_is_given_two_minutes(pool: Pool) -> None:
    note = owner.Owner("another boot", "1.1", "a", pool.ceph.now())
    pool.ceph.notes[PLACE, "making.k8s-pvc-1"] = str(note)
    pool.ceph.half_make(PLACE, "k8s-pvc-1")
    with pytest.raises(errors.OperationPendingError):
        pool.backend.create(request())
    pool.ceph.passing(121)
    assert pool.backend.create(request()).size == model.MIB
    assert pool.listed() == ["k8s-pvc-1"]


def test_a_half_made_image_that_nobody_noted_is_repaired(pool: Pool) -> None:
    pool.ceph.half_make(PLACE, "k8s-pvc-1")
    assert pool.backend.create(request()).size == model.MIB


@pytest.mark.parametrize("metadata", [{}, {"provisioner.instance": "other", "provisioner.name": "pvc-1"}])
def test_an_image_of_somebody_else_is_refused_and_not_touched(pool: Pool, metadata: dict[str, str]) -> None:
    image = pool.make_foreign("k8s-pvc-1", **metadata)
    for _ in range(2):
        with pytest.raises(errors.VolumeExistsError, match="somebody else"):
            pool.backend.create(request())
    pool.backend.delete(model.VolumeId(f"r1.{ids.cluster_digits('fake')}.1.k8s-pvc-1"))
    assert (pool.listed(), image.metadata, image.size) == (["k8s-pvc-1"], metadata, model.MIB)
    assert pool.volumes() == []
    assert pool.ceph.notes == {}


def test_a_copy_under_the_name_of_a_volume_that_was_once_begun_is_not_touched(pool: Pool) -> None:
    pool.backend.create(request("pvc-2"))
    kill(pool, "claim_note:done", request())
    end_process(pool)
    pool.ceph.passing(3600)
    pool.make_foreign("k8s-pvc-1", **pool.image("k8s-pvc-2").metadata).created = pool.ceph.now()
    with pytest.raises(errors.VolumeExistsError, match="somebody else"):
        pool.backend.create(request())
    assert pool.listed() == ["k8s-pvc-1", "k8s-pvc-2"]


@pytest.mark.parametrize("step", ["create", "create:made"])
def test_a_pool_that_becomes_full_in_between_leaves_nothing_that_hinders_the_next_call(pool: Pool, step: str) -> None:
    pool.ceph.faults.fail(step, client_errors.QuotaExceededError("pool kube is full"), times=1)
    with pytest.raises(errors.InsufficientCapacityError):
        pool.backend.create(request())
    assert pool.volumes() == []
    assert pool.backend.create(request()).size == model.MIB
    assert (pool.listed(), pool.ceph.notes) == (["k8s-pvc-1"], {})


def test_two_instances_share_a_pool_without_seeing_each_other(pool: Pool) -> None:
    other = pool.open(instance="east")
    mine, theirs = pool.backend.create(request()), other.create(request())
    assert mine.id != theirs.id
    assert [volume.id for volume in pool.backend.list(after=None, limit=9)] == [mine.id]
    assert [volume.id for volume in other.list(after=None, limit=9)] == [theirs.id]


def test_a_repeated_call_looks_instead_of_making(pool: Pool) -> None:
    made = pool.backend.create(request())
    pool.ceph.faults.calls.clear()
    assert pool.backend.create(request()) == made
    assert pool.ceph.faults.calls["create"] == 0
    assert pool.ceph.faults.calls["claim_note"] == 0


def test_a_create_that_timed_out_is_looked_at_again(pool: Pool) -> None:
    pool.ceph.faults.fail("create:done", errors.BackendUnavailableError("too late"), times=1)
    with pytest.raises(errors.BackendUnavailableError):
        pool.backend.create(request())
    assert pool.backend.create(request()).size == model.MIB
    assert pool.listed() == ["k8s-pvc-1"]


@pytest.mark.parametrize(("asked", "limit", "size"), [(1, 0, 1), (1_000_003, 0, 1), (3 << 20, 0, 3), (0, 5 << 20, 5)])
def test_sizes_are_whole_mebibytes(pool: Pool, asked: int, limit: int, size: int) -> None:
    assert pool.backend.create(request(size=asked, limit=limit)).size == size * model.MIB


@pytest.mark.parametrize(
    ("asked", "limit"), [(0, 5), (1, 1000), (model.MIB + 1, model.MIB + 2), (8 << 60, 0), (101 * model.GIB, 0)]
)
def test_a_size_that_cannot_be_is_out_of_range(pool: Pool, asked: int, limit: int) -> None:
    with pytest.raises(errors.SizeOutOfRangeError):
        pool.backend.create(request(size=asked, limit=limit))
    assert pool.listed() == []


def test_a_size_above_the_quota_is_out_of_range(pool: Pool) -> None:
    pool.ceph.quotas["kube"] = 10 * model.MIB
    with pytest.raises(errors.SizeOutOfRangeError, match="10485760"):
        pool.backend.create(request(size=11 * model.MIB))


def test_a_full_pool_is_a_lack_of_room_and_leaves_nothing(pool: Pool) -> None:
    pool.ceph.full.add("kube")
    with pytest.raises(errors.InsufficientCapacityError):
        pool.backend.create(request())
    assert (pool.listed(), pool.ceph.notes) == ([], {})


def test_a_volume_that_is_there_is_found_in_a_full_pool(pool: Pool) -> None:
    made = pool.backend.create(request())
    pool.ceph.full.add("kube")
    assert pool.open().create(request()) == made


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"pool": "nowhere"}, "nowhere"),
        ({"radosNamespace": "nowhere"}, "nowhere"),
        ({"dataPool": "nowhere"}, "nowhere"),
        ({"clusterID": "nowhere"}, "fake"),
    ],
)
def test_a_place_that_there_is_not_is_named(pool: Pool, parameters: dict[str, str], said: str) -> None:
    with pytest.raises(errors.InvalidParameterError, match=said):
        pool.backend.create(request(parameters=parameters))


def test_a_volume_lies_in_the_namespace_of_its_class(pool: Pool) -> None:
    pool.ceph.add_namespace("kube", "east")
    made = pool.backend.create(request(parameters={"radosNamespace": "east"}))
    plain = pool.backend.create(request())
    assert (made.context["radosNamespace"], ".east." in made.id.value) == ("east", True)
    assert [volume.id for volume in pool.open().list(after=None, limit=9)] == sorted([made.id, plain.id])
    pool.backend.delete(made.id)
    assert pool.volumes() == ["k8s-pvc-1"]


def test_a_filesystem_on_several_nodes_is_refused_with_what_to_write(pool: Pool) -> None:
    with pytest.raises(errors.InvalidRequestError, match="volumeMode: Block"):
        pool.backend.create(request(capabilities=(RWX,)))
    shared = model.Capability(access_mode=RWX.access_mode, access_type=BLOCK)
    pool.backend.create(request(capabilities=(shared,)))


def test_an_empty_volume_that_nobody_may_write_is_refused(pool: Pool) -> None:
    with pytest.raises(errors.InvalidRequestError, match="dataSource"):
        pool.backend.create(request(capabilities=(ROX,)))
    source = pool.backend.create(request("source", capabilities=(RWO, ROX)))
    pool.backend.create(request("copy", capabilities=(ROX,), source=source.id))


def test_damaged_metadata_is_named_and_the_others_work(pool: Pool) -> None:
    good, bad = pool.backend.create(request("good")), pool.backend.create(request("bad"))
    pool.image("k8s-bad").metadata["provisioner.created"] = "yesterday"
    with pytest.raises(errors.VolumeQuarantinedError, match="k8s-bad"):
        pool.backend.get(bad.id)
    assert [*pool.backend.list(after=None, limit=9)] == [good]


def test_a_volume_of_an_unknown_cluster_is_not_found_and_its_deletion_waits(pool: Pool) -> None:
    elsewhere = model.VolumeId("r1.00000000.1.k8s-pvc-1")
    with pytest.raises(errors.VolumeNotFoundError):
        pool.backend.get(elsewhere)
    with pytest.raises(errors.BackendUnavailableError, match="clusters file"):
        pool.backend.delete(elsewhere)


def test_a_rotated_key_counts_from_the_next_call_on(pool: Pool) -> None:
    made = pool.backend.create(request())
    pool.ceph.key = "new"
    (pool.directory / "clusters.yaml").write_text(
        "- {clusterID: fake, monitors: ['127.0.0.1:3300'], user: csi, key: new}\n"
    )
    assert pool.backend.get(made.id) == made


def test_an_ended_process_is_told_from_a_living_one() -> None:
    now = datetime.datetime.now(datetime.UTC)
    me = owner.Owner.me("a", now)
    assert owner.Owner.parse(str(me)) == me
    assert not me.has_ended(now + datetime.timedelta(days=1))
    assert owner.Owner(me.machine, "1.0", "a", now).has_ended(now)
    assert owner.Owner.parse("{}") is None


def test_the_images_layout_is_what_the_class_says(pool: Pool) -> None:
    pool.ceph.add_pool("ec")
    pool.backend.create(
        request(
            parameters={
                "dataPool": "ec",
                "objectSize": "8Mi",
                "stripeUnit": "65536",
                "stripeCount": "4",
                "imageFeatures": "layering,exclusive-lock",
            }
        )
    )
    assert pool.image("k8s-pvc-1").layout == api.Layout(
        features=frozenset({"layering", "exclusive-lock"}), data_pool="ec", order=23, stripe_unit=65536, stripe_count=4
    )


def test_nobody_is_refused_for_a_quota_that_was_raised_meanwhile(pool: Pool) -> None:
    pool.ceph.quotas["kube"] = model.MIB
    with pytest.raises(errors.SizeOutOfRangeError):
        pool.backend.create(request(size=2 * model.MIB))
    pool.ceph.quotas["kube"] = 4 * model.MIB
    assert pool.backend.create(request(size=2 * model.MIB)).size == 2 * model.MIB


@pytest.mark.parametrize(
    ("metadata", "later"),
    [({}, 601), ({"theirs": "yes"}, 0), ({"provisioner.instance": "other", "provisioner.name": "pvc-1"}, 0)],
    ids=["made long after", "described by others", "of another instance"],
)
def test_a_name_that_a_stranger_took_after_a_killed_create_is_his(
    pool: Pool, metadata: dict[str, str], later: float
) -> None:
    kill(pool, "claim_note:done", request())
    end_process(pool)
    pool.ceph.passing(later)
    image = pool.make_foreign("k8s-pvc-1", **metadata)
    image.created = pool.ceph.now()
    for _ in range(2):
        with pytest.raises(errors.VolumeExistsError, match="somebody else"):
            pool.open().create(request())
    assert pool.listed() == ["k8s-pvc-1"]


def test_a_cluster_that_does_not_answer_keeps_no_other_from_being_purged(pool: Pool) -> None:
    made = pool.backend.create(request(parameters={"onDelete": "purge"}))
    pool.backend.delete(made.id)
    lost = "- {clusterID: aaa, monitors: ['127.0.0.1:1'], user: csi, key: wrong}\n"
    with (pool.directory / "clusters.yaml").open("a") as file:
        file.write(lost)
    assert pool.backend.purge_expired() == 1


def test_a_user_of_one_namespace_alone_has_its_volumes_listed_and_purged(pool: Pool) -> None:
    pool.ceph.add_namespace("kube", "east")
    pool.ceph.faults.fail("namespaces", client_errors.NotPermittedError("not for you"))
    made = pool.backend.create(request(parameters={"radosNamespace": "east", "onDelete": "purge"}))
    assert [volume.id for volume in pool.backend.list(after=None, limit=9)] == [made.id]
    again = pool.open()
    assert again.get(made.id) == made
    again.delete(made.id)
    assert again.purge_expired() == 1


def test_a_pool_that_the_user_may_not_use_is_left_out_and_refused_by_name(pool: Pool) -> None:
    made = pool.backend.create(request())
    pool.ceph.add_pool("theirs")
    pool.ceph.faults.fail("claim_note", client_errors.NotPermittedError("not for you"))
    with pytest.raises(errors.AccessDeniedError):
        pool.backend.create(request("pvc-2", parameters={"pool": "theirs"}))
    assert [volume.id for volume in pool.backend.list(after=None, limit=9)] == [made.id]
