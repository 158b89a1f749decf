"""A pool's name is not the pool: an operator who migrates gives it to another one."""

from provisioner.backends.rbd.client import api, librbd
from tests.harness import ceph as ceph_harness

_SIZE = 1 << 20


def test_images_go_to_the_pool_that_has_the_name_now(ceph: ceph_harness.CephCluster) -> None:
    ceph.create_pool("before")
    ceph.create_pool("after")
    cluster = librbd.LibradosCluster(
        api.Credentials(cluster="test", monitors=ceph.monitors, user=ceph_harness.USER, key=ceph.key)
    )
    cluster.images(api.Place("before")).create("old", _SIZE)
    ceph.ceph("osd", "pool", "rename", "before", "put-by")
    ceph.ceph("osd", "pool", "rename", "after", "before")
    # The connection learns of it from the OSD, with the next operation at the latest.
    cluster.images(api.Place("put-by")).create("met", _SIZE)

    number = cluster.pool_id("before")
    images = cluster.images(api.Place("before"))
    images.create("new", _SIZE)

    assert [entry.name for entry in images.list()] == ["new"]
    assert cluster.pool_name(number) == "before"
    assert ceph.rbd("ls", "put-by").split() == ["met", "old"]
