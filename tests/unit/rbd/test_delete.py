"""How images go: into the trash with what is known of them, out of it again, and for good when their time is over."""

import datetime

import pytest

from provisioner import errors, model
from provisioner.backends import inventory
from provisioner.backends.rbd.client import errors as client_errors
from tests.fakes import rbd_state
from tests.fakes.directory_pools import ROX
from tests.unit.rbd.conftest import PLACE, Pool, request

CLAIM = {"csi.storage.k8s.io/pvc/namespace": "shop", "csi.storage.k8s.io/pvc/name": "data-0"}
HOUR = datetime.timedelta(hours=1)


def entries(pool: Pool, state: inventory.State) -> list[inventory.Entry]:
    return [entry for entry in pool.backend.inventory().entries() if entry.state is state]


def orphans(pool: Pool, *known: model.Volume) -> list[model.VolumeId]:
    listed, ids = pool.backend.inventory().entries(), {volume.id.value for volume in known}
    return [entry.id for entry in inventory.orphans(listed, ids, grace=HOUR, now=pool.ceph.now())]


def snapshot(pool: Pool, of: model.Volume, name: str = "snap-1") -> model.Snapshot:
    return pool.backend.create_snapshot(model.SnapshotRequest(name=name, source=of.id))


def test_a_deleted_volume_is_in_the_trash_with_its_claim_until_its_retention_is_over(pool: Pool) -> None:
    made = pool.backend.create(request(parameters={**CLAIM, "trashRetention": "1h"}))
    pool.backend.delete(made.id)
    (entry,) = entries(pool, inventory.State.TRASH)
    assert (entry.id, entry.name, entry.claim, entry.size) == (made.id, "pvc-1", "shop/data-0", model.MIB)
    assert entry.deleted is not None
    assert entry.expires == entry.deleted + HOUR
    pool.ceph.passing(3599)
    assert pool.backend.purge_expired() == 0
    pool.ceph.passing(2)
    assert pool.backend.purge_expired() == 1
    assert pool.ceph.everything == []


def test_a_class_can_have_its_volumes_purged_at_once(pool: Pool) -> None:
    made = pool.backend.create(request(parameters={"onDelete": "purge"}))
    pool.backend.delete(made.id)
    assert pool.backend.purge_expired() == 1


def test_a_class_can_have_its_images_retained(pool: Pool) -> None:
    made = pool.backend.create(request(parameters={"onDelete": "retain"}))
    pool.backend.delete(made.id)
    pool.ceph.passing(10**9)
    assert pool.backend.purge_expired() == 0
    (entry,) = entries(pool, inventory.State.TRASH)
    assert (entry.id, entry.expires) == (made.id, None)
    assert pool.backend.create(request(parameters={"onDelete": "retain"})).id == made.id
    assert len(pool.listed()) == 2


def test_a_volume_that_is_open_is_not_deleted_and_the_address_is_said(pool: Pool) -> None:
    made = pool.backend.create(request())
    pool.ceph.watch(PLACE, "k8s-pvc-1")
    with pytest.raises(errors.VolumeInUseError, match=rbd_state.STRANGER):
        pool.backend.delete(made.id)
    pool.ceph.leave(PLACE, "k8s-pvc-1")
    pool.backend.delete(made.id)
    assert pool.trashed() == ["k8s-pvc-1"]


def test_not_found_is_no_deletion_while_the_image_is_listed(pool: Pool) -> None:
    made = pool.backend.create(request())
    pool.ceph.faults.fail("trash_move", client_errors.ImageNotFoundError("as a full pool says"))
    with pytest.raises(errors.BackendUnavailableError, match="listed"):
        pool.backend.delete(made.id)
    pool.ceph.faults.mend("trash_move")
    pool.backend.delete(made.id)
    assert pool.trashed() == ["k8s-pvc-1"]


def test_an_image_that_went_behind_our_back_is_deleted_and_not_found(pool: Pool) -> None:
    made = pool.backend.create(request())
    pool.ceph.forget(pool.image("k8s-pvc-1"))
    with pytest.raises(errors.VolumeNotFoundError):
        pool.backend.get(made.id)
    pool.backend.delete(made.id)
    assert pool.backend.create(request()) == made


def test_a_half_made_image_is_cleared_away_by_its_deletion(pool: Pool) -> None:
    made = pool.backend.create(request())
    pool.backend.delete(made.id)
    pool.ceph.half_make(PLACE, "k8s-pvc-1")
    pool.backend.delete(made.id)
    assert pool.listed() == []
    assert pool.ceph.notes == {}


def test_one_image_that_cannot_go_keeps_no_other(pool: Pool) -> None:
    source, other = pool.backend.create(request("source")), pool.backend.create(request("other"))
    copy = pool.backend.create(request("copy", source=source.id))
    for volume in (source, other):
        pool.backend.delete(volume.id)
    pool.ceph.passing(86401)
    assert pool.backend.purge_expired() == 1
    assert pool.trashed() == ["k8s-source"]
    assert pool.backend.get(copy.id) == copy
    pool.backend.delete(copy.id)
    pool.ceph.passing(86401)
    assert sum(pool.backend.purge_expired() for _ in range(2)) == 2
    assert pool.ceph.everything == []


def test_what_others_put_into_the_trash_stays_there(pool: Pool) -> None:
    pool.make_foreign("theirs")
    pool.backend._places.all()[0].images.trash_move("theirs", delay_seconds=0)
    pool.ceph.passing(10)
    assert pool.backend.purge_expired() == 0
    assert pool.trashed() == ["theirs"]


def test_a_copy_that_somebody_made_of_a_volume_is_neither_purged_nor_restored(pool: Pool) -> None:
    made = pool.backend.create(request())
    pool.make_foreign("backup", **pool.image("k8s-pvc-1").metadata)
    pool.backend._places.all()[0].images.trash_move("backup", delay_seconds=0)
    pool.ceph.passing(2 * 86400)
    assert pool.backend.purge_expired() == 0
    with pytest.raises(errors.VolumeNotFoundError):
        pool.backend.inventory().restore(model.VolumeId("r1.b5d54c39.1.k8s-backup"), "")
    assert (pool.trashed(), pool.volumes()) == (["backup"], ["k8s-pvc-1"])
    assert pool.backend.get(made.id) == made


def test_a_volume_that_was_put_into_the_trash_by_hand_stays_there_for_its_retention(pool: Pool) -> None:
    pool.backend.create(request())
    pool.backend._places.all()[0].images.trash_move("k8s-pvc-1", delay_seconds=0)
    pool.ceph.passing(86399)
    assert pool.backend.purge_expired() == 0
    pool.ceph.passing(2)
    assert pool.backend.purge_expired() == 1


@pytest.mark.parametrize("step", ["set_metadata:done", "trash_restore:done"])
def test_a_restoration_under_another_name_that_was_killed_is_done_by_the_next(pool: Pool, step: str) -> None:
    made = pool.backend.create(request())
    pool.backend.delete(made.id)
    pool.ceph.faults.kill(step)
    with pytest.raises(rbd_state.Killed):
        pool.backend.inventory().restore(made.id, "rescued")
    rescued = model.VolumeId(str(made.id).replace("pvc-1", "rescued"))
    entry = pool.backend.inventory().restore(rescued, "")
    assert (entry.id, pool.listed(), pool.trashed()) == (rescued, ["k8s-rescued"], [])
    assert pool.backend.get(rescued).size == made.size


def test_one_process_purges_at_a_time_and_a_dead_one_keeps_nobody_for_long(pool: Pool) -> None:
    made = pool.backend.create(request(parameters={"onDelete": "purge"}))
    pool.backend.delete(made.id)
    pool.ceph.faults.kill("trash_remove")
    pool.ceph.faults.fail("unlock", rbd_state.Killed())
    with pytest.raises(rbd_state.Killed):
        pool.backend.purge_expired()
    pool.ceph.faults.mend("unlock")
    other = pool.open()
    assert other.purge_expired() == 0
    pool.ceph.passing(61)
    assert other.purge_expired() == 1


def test_a_purge_that_fails_is_counted_and_tried_again(pool: Pool) -> None:
    made = pool.backend.create(request(parameters={"onDelete": "purge"}))
    pool.backend.delete(made.id)
    pool.ceph.faults.fail("trash_remove", client_errors.TimedOutError("slow"), times=1)
    assert [pool.backend.purge_expired() for _ in range(2)] == [0, 1]
    counted = [
        pool.measured.registry.get_sample_value("provisioner_purge_total", {"outcome": outcome})
        for outcome in ("failed", "purged")
    ]
    assert counted == [1, 1]


def test_a_restored_volume_is_the_same_under_its_id(pool: Pool) -> None:
    made = pool.backend.create(request(parameters=CLAIM))
    pool.image("k8s-pvc-1").content = "precious"
    pool.backend.delete(made.id)
    entry = pool.backend.inventory().restore(made.id, "")
    assert (entry.id, entry.state, entry.claim) == (made.id, inventory.State.READY, "shop/data-0")
    assert pool.backend.get(made.id) == made
    assert pool.image("k8s-pvc-1").content == "precious"
    assert pool.backend.inventory().restore(made.id, "") == entry


def test_a_volume_is_restored_under_another_name_where_its_own_is_taken(pool: Pool) -> None:
    made = pool.backend.create(request())
    pool.backend.delete(made.id)
    pool.backend.create(request())
    with pytest.raises(errors.VolumeExistsError, match="pvc-1"):
        pool.backend.inventory().restore(made.id, "")
    entry = pool.backend.inventory().restore(made.id, "rescued")
    assert (entry.name, pool.listed()) == ("rescued", ["k8s-pvc-1", "k8s-rescued"])
    assert pool.backend.get(entry.id).id == entry.id


def test_of_several_that_had_one_name_the_last_is_restored(pool: Pool) -> None:
    for content in ("first", "second"):
        made = pool.backend.create(request())
        pool.image("k8s-pvc-1").content = content
        pool.backend.delete(made.id)
        pool.ceph.passing(1)
    pool.backend.inventory().restore(made.id, "")
    assert pool.image("k8s-pvc-1").content == "second"


def test_what_is_not_in_the_trash_is_not_restored(pool: Pool) -> None:
    for lost in ("no-such-volume", "r1.b5d54c39.1.k8s-lost", "r1.00000000.1.k8s-lost"):
        with pytest.raises(errors.VolumeNotFoundError):
            pool.backend.inventory().restore(model.VolumeId(lost), "")


def test_a_volume_whose_snapshots_are_wanted_is_put_aside_until_the_last_is_gone(pool: Pool) -> None:
    made = pool.backend.create(request())
    pool.image("k8s-pvc-1").content = "then"
    first, second = (snapshot(pool, made, name) for name in ("a", "b"))
    pool.backend.delete(made.id)
    with pytest.raises(errors.VolumeNotFoundError):
        pool.backend.get(made.id)
    assert pool.backend.list(after=None, limit=9) == []
    assert pool.backend.get_snapshot(first.id) == first
    assert list(pool.backend.list_snapshots(source=None, after=None, limit=9)) == sorted(
        [first, second], key=lambda each: each.id.value
    )
    pool.backend.create(request())
    restored = pool.backend.create(request("restored", source=first.id, capabilities=(ROX,)))
    assert pool.image(restored.context["imageName"]).content == "then"
    pool.backend.delete_snapshot(first.id)
    assert pool.trashed() == []
    pool.backend.delete_snapshot(second.id)
    assert len(pool.trashed()) == 1
    assert pool.backend.get(restored.id) == restored


@pytest.mark.parametrize("step", ["set_metadata:done", "trash_move:done", "trash_restore", "trash_restore:done"])
def test_a_deletion_that_was_killed_loses_no_snapshot(pool: Pool, step: str) -> None:
    made = pool.backend.create(request())
    taken = snapshot(pool, made)
    pool.ceph.faults.kill(step)
    with pytest.raises(rbd_state.Killed):
        pool.backend.delete(made.id)
    fresh = pool.open()
    fresh.delete(made.id)
    fresh.purge_expired()
    restored = fresh.create(request("restored", source=taken.id))
    assert fresh.create(request()).id == made.id
    fresh.delete_snapshot(taken.id)
    assert len(pool.trashed()) == 1
    assert sorted(pool.volumes()) == ["k8s-pvc-1", "k8s-restored"]
    assert fresh.get(restored.id) == restored


def test_an_image_put_aside_is_restored_with_its_snapshots(pool: Pool) -> None:
    made = pool.backend.create(request())
    taken = snapshot(pool, made)
    pool.backend.delete(made.id)
    pool.backend.inventory().restore(made.id, "")
    assert pool.backend.get(made.id) == made
    assert pool.backend.get_snapshot(taken.id) == taken


def test_orphans_are_told_and_left_alone(pool: Pool) -> None:
    known, lost = pool.backend.create(request("known")), pool.backend.create(request("lost"))
    assert orphans(pool, known) == []
    pool.ceph.passing(3601)
    assert orphans(pool, known) == [lost.id]
    assert sorted(pool.volumes()) == ["k8s-known", "k8s-lost"]


def test_each_image_of_ours_is_listed_as_what_it_is(pool: Pool) -> None:
    pool.backend.create(request("good"))
    pool.backend.create(request("bad"))
    pool.image("k8s-bad").metadata["provisioner.created"] = "?"
    pool.make_foreign("k8s-theirs")
    found = {entry.where: entry.state for entry in pool.backend.inventory().entries()}
    assert found == {"fake/kube/k8s-good": inventory.State.READY, "fake/kube/k8s-bad": inventory.State.UNREADABLE}


def test_a_volume_whose_removal_has_begun_is_not_had_back(pool: Pool) -> None:
    made = pool.backend.create(request())
    pool.backend.delete(made.id)
    pool.ceph.faults.fail("trash_restore", client_errors.ImageBusyError("as Ceph says while it removes"))
    with pytest.raises(errors.NotReadyError, match="removal has begun"):
        pool.backend.inventory().restore(made.id, "")
