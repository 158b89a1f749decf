"""A single writer stays single: a node is given a volume only when the one that had it can write no more."""

import pytest

from provisioner import errors, model
from tests.fakes import rbd_state
from tests.fakes.directory_pools import ROX, RWO, RWX
from tests.unit.rbd.conftest import PLACE, Pool, request

BLOCK = model.Capability(access_mode=RWX.access_mode, access_type=model.AccessType.BLOCK)


@pytest.fixture
def volume(pool: Pool) -> model.Volume:
    return pool.backend.create(request())


def publish(pool: Pool, volume: model.Volume, node: str, capability: model.Capability = RWO) -> None:
    pool.backend.publish(volume.id, node, capability, read_only=False)


def test_a_second_node_is_refused_with_the_first_one_s_name_and_address(pool: Pool, volume: model.Volume) -> None:
    publish(pool, volume, "node-1")
    pool.ceph.watch(PLACE, "k8s-pvc-1")
    with pytest.raises(errors.VolumeInUseError, match=f"node-1 .*{rbd_state.STRANGER}"):
        publish(pool, volume, "node-2")
    pool.backend.unpublish(volume.id, "node-1")
    with pytest.raises(errors.VolumeInUseError, match=rbd_state.STRANGER):
        publish(pool, volume, "node-2")
    pool.ceph.leave(PLACE, "k8s-pvc-1")
    publish(pool, volume, "node-2")


def test_publishing_and_taking_back_can_be_repeated(pool: Pool, volume: model.Volume) -> None:
    for _ in range(2):
        publish(pool, volume, "node-1")
        pool.ceph.watch(PLACE, "k8s-pvc-1")
    pool.ceph.leave(PLACE, "k8s-pvc-1")
    for _ in range(2):
        pool.backend.unpublish(volume.id, "node-1")
    publish(pool, volume, "node-2")


def test_a_dead_node_s_volume_waits_until_it_is_fenced(pool: Pool, volume: model.Volume) -> None:
    publish(pool, volume, "node-1")
    pool.ceph.watch(PLACE, "k8s-pvc-1")
    pool.ceph.leave(PLACE, "k8s-pvc-1", cleanly=False)
    with pytest.raises(errors.VolumeInUseError, match="out-of-service"):
        publish(pool, volume, "node-2")
    pool.ceph.fenced.add(rbd_state.STRANGER)
    publish(pool, volume, "node-2")
    assert pool.image("k8s-pvc-1").owner is None
    with pytest.raises(errors.VolumeInUseError, match="node-2"):
        publish(pool, volume, "node-1")


def test_a_node_that_is_out_of_service_is_fenced_before_its_volume_is_given_away(
    pool: Pool, volume: model.Volume
) -> None:
    publish(pool, volume, "node-1")
    pool.ceph.watch(PLACE, "k8s-pvc-1")
    pool.ceph.leave(PLACE, "k8s-pvc-1", cleanly=False)
    told = pool.open(is_out_of_service=lambda node: node == "node-1")
    told.publish(volume.id, "node-2", RWO, read_only=False)
    assert rbd_state.STRANGER in pool.ceph.fenced


def test_nodes_that_share_a_raw_device_have_it_at_once(pool: Pool) -> None:
    shared = pool.backend.create(request(capabilities=(BLOCK,)))
    for node in ("node-1", "node-2"):
        publish(pool, shared, node, BLOCK)
    pool.backend.unpublish(shared.id, "node-1")
    assert pool.metadata("k8s-pvc-1")["node"] == '{"node-2": "rw"}'


def test_readers_wait_for_a_writer_and_a_writer_for_readers(pool: Pool) -> None:
    source = pool.backend.create(request("source"))
    copy = pool.backend.create(request("copy", source=source.id, capabilities=(ROX, RWO)))
    publish(pool, copy, "node-1")
    with pytest.raises(errors.VolumeInUseError, match="node-1"):
        publish(pool, copy, "node-2", ROX)
    pool.backend.unpublish(copy.id, "node-1")
    for node in ("node-2", "node-3"):
        publish(pool, copy, node, ROX)
    with pytest.raises(errors.VolumeInUseError, match="node-2"):
        publish(pool, copy, "node-1")


def test_a_filesystem_is_not_given_to_several_writers(pool: Pool, volume: model.Volume) -> None:
    with pytest.raises(errors.InvalidRequestError, match="volumeMode: Block"):
        publish(pool, volume, "node-1", RWX)


def test_a_volume_is_taken_from_all_nodes_where_none_is_named(pool: Pool, volume: model.Volume) -> None:
    publish(pool, volume, "node-1")
    pool.backend.unpublish(volume.id, "")
    publish(pool, volume, "node-2")


def test_two_processes_do_not_publish_at_once(pool: Pool, volume: model.Volume) -> None:
    other = pool.open()
    refused = []

    def meanwhile() -> None:
        pool.ceph.faults.mend("set_metadata")
        with pytest.raises(errors.OperationPendingError):
            other.publish(volume.id, "node-2", RWO, read_only=False)
        refused.append("node-2")

    pool.ceph.faults.on("set_metadata", meanwhile)
    publish(pool, volume, "node-1")
    assert refused == ["node-2"]
    assert pool.metadata("k8s-pvc-1")["node"] == '{"node-1": "rw"}'


def test_a_volume_that_a_node_has_is_not_deleted_until_it_is_detached(pool: Pool, volume: model.Volume) -> None:
    publish(pool, volume, "node-1")
    with pytest.raises(errors.VolumeInUseError, match="node-1"):
        pool.backend.delete(volume.id)
    assert pool.listed() == ["k8s-pvc-1"]
    pool.backend.unpublish(volume.id, "node-1")
    pool.backend.delete(volume.id)
    assert pool.trashed() == ["k8s-pvc-1"]


def test_a_volume_that_a_node_has_is_not_purged(pool: Pool, volume: model.Volume) -> None:
    publish(pool, volume, "node-1")
    pool.backend._places.all()[0].images.trash_move("k8s-pvc-1", delay_seconds=0)
    pool.ceph.passing(2 * 86400)
    assert pool.backend.purge_expired() == 0
    assert pool.trashed() == ["k8s-pvc-1"]
