"""Cached objects share what they have in common, and nobody can tell."""

import msgspec

from provisioner.kube import objects, store


def _claim(number: int) -> objects.PersistentVolumeClaim:
    text = f"""{{"metadata": {{"name": "c{number}", "namespace": "default", "uid": "u{number}",
      "resourceVersion": "{number}", "labels": {{"app": "web"}}, "finalizers": ["kubernetes.io/pvc-protection"]}},
      "spec": {{"accessModes": ["ReadWriteOnce"], "storageClassName": "standard", "volumeName": "pvc-{number}",
      "resources": {{"requests": {{"storage": "1Gi"}}}}}}, "status": {{"phase": "Bound"}}}}"""
    return msgspec.json.decode(text, type=objects.PersistentVolumeClaim)


def test_equal_values_of_two_cached_objects_are_one() -> None:
    subject = store.Store[objects.PersistentVolumeClaim]()
    one, two = _claim(1), _claim(2)
    subject.put(one)
    subject.put(two)
    pairs = [
        (one.metadata.labels, two.metadata.labels),
        (one.metadata.finalizers, two.metadata.finalizers),
        (one.spec.resources, two.spec.resources),
        (one.spec.storage_class_name, two.spec.storage_class_name),
        (one.status.phase, two.status.phase),
    ]
    assert [first is second for first, second in pairs] == [True] * len(pairs)


def test_an_object_that_shares_is_equal_to_what_it_was() -> None:
    subject = store.Store[objects.PersistentVolumeClaim]()
    for number in (1, 2):
        subject.put(_claim(number))
    assert subject.values() == [_claim(1), _claim(2)]


def test_values_that_never_recur_do_not_pile_up() -> None:
    subject = store.Store[objects.Node]()
    for number in range(1, 5000):
        meta = objects.ObjectMeta(name="n", resource_version=str(number), annotations={"beat": str(number)})
        subject.put(objects.Node(metadata=meta))
    assert len(subject._pool._mappings) <= 2048
