"""The PersistentVolume that is written, and what is read from one."""

from typing import Any

import msgspec
import pytest

from provisioner import model
from provisioner.controllers import names, persistent, secrets
from provisioner.kube import objects
from tests.unit.controllers import build

_MADE = model.Volume(
    id=model.VolumeId("vol-1"), size=model.GIB, context={"pool": "a"}, topologies=(build.place("a"), build.place("b"))
)


def _secret(kind: str, name: str) -> dict[str, str]:
    return {
        f"{names.PARAMETER_PREFIX}{kind}-name": name,
        f"{names.PARAMETER_PREFIX}{kind}-namespace": "storage",
    }


def _build(**fields: Any) -> objects.PersistentVolume:
    intent = build.intent(of_class=build.storage_class(**fields))
    return persistent.build(intent, _MADE, driver=build.DRIVER, identity="me")


def test_the_whole_object_is_as_the_stock_provisioner_writes_it() -> None:
    parameters = {
        f"{names.PARAMETER_PREFIX}fstype": "xfs",
        **_secret("provisioner-secret", "make"),
        **_secret("node-publish-secret", "use"),
    }
    made = msgspec.to_builtins(_build(mount_options=("noatime",), parameters=parameters))
    assert made == {
        "metadata": {
            "name": "pvc-u1",
            "annotations": {
                "pv.kubernetes.io/provisioned-by": "driver.example",
                "volume.kubernetes.io/provisioner-deletion-secret-name": "make",
                "volume.kubernetes.io/provisioner-deletion-secret-namespace": "storage",
            },
            "finalizers": ("external-provisioner.volume.kubernetes.io/finalizer",),
        },
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ("ReadWriteOnce",),
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": "fast",
            "mountOptions": ("noatime",),
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": "app",
                "name": "data",
                "uid": "u1",
                "resourceVersion": "7",
            },
            "nodeAffinity": {
                "required": {
                    "nodeSelectorTerms": (
                        {"matchExpressions": ({"key": build.WHERE, "operator": "In", "values": ("a",)},)},
                        {"matchExpressions": ({"key": build.WHERE, "operator": "In", "values": ("b",)},)},
                    )
                }
            },
            "csi": {
                "driver": "driver.example",
                "volumeHandle": "vol-1",
                "fsType": "xfs",
                "volumeAttributes": {"pool": "a", "storage.kubernetes.io/csiProvisionerIdentity": "me"},
                "nodePublishSecretRef": {"name": "use", "namespace": "storage"},
            },
        },
    }


def test_a_volume_that_is_to_be_kept_has_no_finalizer_that_would_hold_its_object_back() -> None:
    kept = _build(reclaim_policy="Retain")
    assert (kept.spec.persistent_volume_reclaim_policy, kept.metadata.finalizers) == ("Retain", ())


def test_a_volume_that_is_reachable_from_everywhere_has_no_node_affinity() -> None:
    everywhere = model.Volume(id=model.VolumeId("v"), size=model.GIB)
    assert persistent.build(build.intent(), everywhere, driver=build.DRIVER, identity="me").spec.node_affinity is None


@pytest.mark.parametrize(("size", "written"), [(0, "1Gi"), (model.GIB + 1, "1073741825"), (2 * model.GIB, "2Gi")])
def test_the_size_is_the_drivers_or_the_requests_where_the_driver_does_not_say(size: int, written: str) -> None:
    volume = model.Volume(id=model.VolumeId("v"), size=size)
    made = persistent.build(build.intent(), volume, driver=build.DRIVER, identity="me")
    assert written == made.spec.capacity.storage


def test_a_volume_smaller_than_its_claim_is_not_accepted() -> None:
    volume = model.Volume(id=model.VolumeId("v"), size=model.GIB - 1)
    with pytest.raises(persistent.MisfitError, match="1073741823 bytes where 1073741824 were asked for"):
        persistent.build(build.intent(), volume, driver=build.DRIVER, identity="me")


def test_a_volume_is_the_same_by_driver_handle_and_claim_and_not_by_name() -> None:
    one = _build()
    renamed = objects.PersistentVolume(metadata=objects.ObjectMeta(name="other"), spec=one.spec)
    assert persistent.same_volume(one, renamed)
    other = persistent.build(build.intent(build.claim(uid="u2")), _MADE, driver=build.DRIVER, identity="me")
    assert not persistent.same_volume(one, other)
    assert not persistent.same_volume(one, build.volume())


def test_the_secret_for_deletion_is_read_from_the_volume_itself() -> None:
    volume = _build(parameters=_secret("provisioner-secret", "make"))
    assert secrets.Reference("make", "storage") == persistent.deletion_secret(volume)
    assert persistent.deletion_secret(_build()) is None


def test_a_node_reaches_the_volumes_whose_affinity_names_its_place() -> None:
    volume = _build()
    assert [
        persistent.reachable_from(volume, place)
        for place in (build.place("a"), model.Topology.of({build.WHERE: "b", "zone": "z"}), build.place("c"))
    ] == [True, True, False]
    assert persistent.reachable_from(build.volume(), build.place("c"))
