"""What an operator does to a cluster while the driver runs: keys, monitors and quotas change, and nothing is lost."""

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioner import errors, model
from provisioner.backends.rbd import backend
from provisioner.backends.rbd.client import api, librbd
from tests.chaos import rbd_worker
from tests.fakes import rbd_backend
from tests.fakes.directory_pools import RWO
from tests.harness import ceph as ceph_harness
from tests.harness import needs


@pytest.fixture(scope="module")
def cluster() -> Iterator[ceph_harness.CephCluster]:
    needs.require(ceph_harness.NEEDS)
    with ceph_harness.CephCluster(osds=3, bytes_per_osd=model.GIB) as made:
        made.create_erasure_pool("coded")
        yield made


def write_clusters(real: ceph_harness.CephCluster, directory: Path, *, key: str = "") -> Path:
    given = api.Credentials(cluster="real", monitors=real.monitors, user=ceph_harness.USER, key=key or real.key)
    return rbd_backend.write_clusters(directory / "clusters.yaml", given)


def request(name: str, *, size: int = model.MIB, **parameters: str) -> model.VolumeRequest:
    return model.VolumeRequest(
        name=name, size=model.SizeRange(size), capabilities=(RWO,), parameters={"pool": "kube", **parameters}
    )


def images(real: ceph_harness.CephCluster, instance: str) -> list[str]:
    return sorted(name for name in real.rbd("ls", "kube").split() if name.startswith(f"{instance}-"))


def listed(made: backend.RbdBackend) -> list[str]:
    return sorted(volume.context["imageName"] for volume in made.list(after=None, limit=1000))


def test_the_data_of_a_volume_can_lie_in_an_erasure_coded_pool(
    cluster: ceph_harness.CephCluster, tmp_path: Path
) -> None:
    made = rbd_worker.open_backend(write_clusters(cluster, tmp_path), "coded")
    volume = made.create(request("pvc-1", size=8 * model.MIB, dataPool="coded"))
    cluster.rbd("bench", "kube/coded-pvc-1", "--io-type=write", "--io-size=1M", "--io-total=4M")
    assert '"data_pool":"coded"' in cluster.rbd("info", "kube/coded-pvc-1", "--format=json")
    assert [name for name in cluster.rados("-p", "coded", "ls").split() if name.startswith("rbd_data")]
    taken = made.create_snapshot(model.SnapshotRequest(name="snap", source=volume.id))
    copy = made.create(
        model.VolumeRequest(
            name="copy",
            size=model.SizeRange(16 * model.MIB),
            capabilities=(RWO,),
            parameters={"pool": "kube", "dataPool": "coded"},
            source=taken.id,
        )
    )
    assert '"data_pool":"coded"' in cluster.rbd("info", "kube/coded-copy", "--format=json")
    made.delete(volume.id)
    made.delete_snapshot(taken.id)
    assert made.get(copy.id) == copy
    with pytest.raises(errors.InvalidParameterError, match="nowhere"):
        made.create(request("pvc-2", dataPool="nowhere"))


def test_in_a_full_pool_nothing_is_made_and_nothing_is_called_deleted_that_is_there(
    cluster: ceph_harness.CephCluster, tmp_path: Path
) -> None:
    made = rbd_worker.open_backend(write_clusters(cluster, tmp_path), "full")
    kept = made.create(request("kept", size=64 * model.MIB))
    going = made.create(request("going"))
    cluster.set_quota("kube", max_bytes=16 * model.MIB)
    try:
        cluster.rbd("bench", "kube/full-kept", "--io-type=write", "--io-size=4M", "--io-total=32M")
        cluster.wait_full("kube")
        with pytest.raises(errors.InsufficientCapacityError):
            made.create(request("more"))
        try:
            made.delete(going.id)
        except errors.ProvisionerError:
            assert "full-going" in images(cluster, "full")
        else:
            assert "full-going" not in images(cluster, "full")
        assert images(cluster, "full") == listed(made)
        assert made.get(kept.id) == kept
    finally:
        cluster.set_quota("kube")
        cluster.wait_full("kube", full=False)
    made.delete(going.id)
    made.create(request("more"))
    assert images(cluster, "full") == listed(made) == ["full-kept", "full-more"]


def test_a_volume_whose_removal_has_begun_is_not_had_back(cluster: ceph_harness.CephCluster, tmp_path: Path) -> None:
    made = rbd_worker.open_backend(write_clusters(cluster, tmp_path), "going")
    volume = made.create(request("pvc-1"))
    made.delete(volume.id)
    given = api.Credentials(cluster="real", monitors=cluster.monitors, user=ceph_harness.USER, key=cluster.key)
    images = librbd.LibradosCluster(given).images(api.Place("kube"))
    (image_id,) = (entry.id for entry in images.trash_list() if entry.name == "going-pvc-1")
    # What a removal that was cut short leaves: the state "removing" in the trash's own object.
    wanted = struct.pack("<I", len(image_id)) + image_id.encode() + bytes([2, 0])
    images.ioctx.execute("rbd_trash", "rbd", "trash_state_set", wanted)
    with pytest.raises(errors.NotReadyError, match="removal has begun"):
        made.inventory().restore(volume.id, "")


def test_a_key_is_rotated_while_the_driver_runs(cluster: ceph_harness.CephCluster, tmp_path: Path) -> None:
    made = rbd_worker.open_backend(write_clusters(cluster, tmp_path), "keys")
    volume = made.create(request("pvc-1"))
    before = cluster.key
    write_clusters(cluster, tmp_path, key=cluster.rotate_key())
    made.create(request("pvc-2"))
    write_clusters(cluster, tmp_path, key=before)
    with pytest.raises(errors.AccessDeniedError) as refused:
        made.get(volume.id)
    assert before not in str(refused.value)
    with pytest.raises(errors.AccessDeniedError):
        made.probe()
    write_clusters(cluster, tmp_path)
    assert listed(made) == images(cluster, "keys") == ["keys-pvc-1", "keys-pvc-2"]


def test_a_monitor_moves_while_the_driver_runs(tmp_path: Path) -> None:
    needs.require(ceph_harness.NEEDS)
    with ceph_harness.CephCluster(store="bluestore") as real:
        made = rbd_worker.open_backend(write_clusters(real, tmp_path), "moved")
        volume = made.create(request("pvc-1"))
        real.move_monitor()
        write_clusters(real, tmp_path)
        assert made.get(volume.id) == volume
        made.create(request("pvc-2"))
        assert listed(made) == images(real, "moved") == ["moved-pvc-1", "moved-pvc-2"]
