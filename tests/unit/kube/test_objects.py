"""Objects keep what is in use, and write what Kubernetes reads."""

import datetime

import msgspec

from provisioner.kube import objects

_VOLUME = b"""{"kind": "PersistentVolume", "apiVersion": "v1", "metadata": {"name": "pvc-1", "uid": "u",
  "resourceVersion": "7", "creationTimestamp": "2026-01-02T03:04:05Z", "managedFields": [{"manager": "x"}]},
 "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
  "persistentVolumeReclaimPolicy": "Delete", "storageClassName": "standard",
  "claimRef": {"namespace": "default", "name": "data", "uid": "c"},
  "csi": {"driver": "d", "volumeHandle": "h", "fsType": "ext4", "volumeAttributes": {"a": "b"}},
  "nodeAffinity": {"required": {"nodeSelectorTerms": [
    {"matchExpressions": [{"key": "k", "operator": "In", "values": ["n1"]}]}]}}},
 "status": {"phase": "Bound"}}"""


def test_a_volume_is_read_with_kubernetes_names() -> None:
    volume = msgspec.json.decode(_VOLUME, type=objects.PersistentVolume)
    assert volume.spec.csi == objects.CsiVolumeSource(
        driver="d", volume_handle="h", fs_type="ext4", volume_attributes={"a": "b"}
    )
    assert volume.spec.claim_ref is not None
    assert volume.spec.claim_ref.key == "default/data"
    assert volume.metadata.creation_timestamp == datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    assert volume.status.phase == "Bound"


def test_managed_fields_are_not_kept() -> None:
    volume = msgspec.json.decode(_VOLUME, type=objects.PersistentVolume)
    assert b"managedFields" not in msgspec.json.encode(volume)


def test_what_is_written_is_read_as_the_same_object() -> None:
    volume = msgspec.json.decode(_VOLUME, type=objects.PersistentVolume)
    assert msgspec.json.decode(msgspec.json.encode(volume), type=objects.PersistentVolume) == volume


def test_a_csi_node_keeps_the_capital_letters_of_its_node_id() -> None:
    node = msgspec.json.decode(
        b'{"metadata":{"name":"n"},"spec":{"drivers":[{"name":"d","nodeID":"i","topologyKeys":["k"]}]}}',
        type=objects.CsiNode,
    )
    assert node.spec.drivers == (objects.CsiNodeDriver(name="d", node_id="i", topology_keys=("k",)),)


def test_no_class_and_the_empty_class_are_told_apart() -> None:
    absent, empty = (
        msgspec.json.decode(text, type=objects.PersistentVolumeClaim).spec.storage_class_name
        for text in (b'{"metadata":{},"spec":{}}', b'{"metadata":{},"spec":{"storageClassName":""}}')
    )
    assert (absent, empty) == (None, "")


def test_a_selector_that_selects_nothing_is_still_a_selector() -> None:
    claim = msgspec.json.decode(b'{"metadata":{},"spec":{"selector":{}}}', type=objects.PersistentVolumeClaim)
    assert claim.spec.selector == {}


def test_a_secret_is_decoded_but_never_shown() -> None:
    secret = msgspec.json.decode(
        b'{"metadata":{"name":"s","namespace":"n"},"data":{"key":"aHVzaA=="}}', type=objects.Secret
    )
    assert secret.data == {"key": b"hush"}
    assert (repr(secret), str(secret)) == ("Secret('n/s', 1 entries)",) * 2


def test_a_reference_names_the_very_object() -> None:
    claim = objects.PersistentVolumeClaim(metadata=objects.ObjectMeta(name="data", namespace="default", uid="u"))
    assert objects.CLAIMS.reference(claim) == objects.ObjectReference(
        api_version="v1", kind="PersistentVolumeClaim", namespace="default", name="data", uid="u"
    )


def test_kinds_of_a_group_have_its_name_in_their_version() -> None:
    assert (objects.CLASSES.api_version, objects.CLAIMS.api_version) == ("storage.k8s.io/v1", "v1")


def test_a_csi_node_of_a_node_without_drivers_has_null_for_them() -> None:
    node = msgspec.json.decode(b'{"metadata": {"name": "n"}, "spec": {"drivers": null}}', type=objects.CsiNode)
    assert node.spec.drivers is None
