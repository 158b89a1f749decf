"""A class's parameters: what is unknown, or cannot be, is said by name, with what to write instead."""

import datetime

import pytest

from provisioner import errors
from provisioner.backends.rbd import context, parameters


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("poool", "kube", "did you mean pool"),
        ("encrypted", "true", "unknown"),
        ("imageFeatures", "layering,fast-dif", "did you mean fast-diff"),
        ("imageFeatures", "layering,object-map", "lacks exclusive-lock"),
        ("imageFeatures", "exclusive-lock", "lacks layering"),
        ("imageFeatures", "layering,exclusive-lock,fast-diff", "without object-map"),
        ("objectSize", "3Mi", "power of two"),
        ("objectSize", "64Mi", "power of two"),
        ("objectSize", "-1", "power of two|number of bytes"),
        ("stripeUnit", "4096", "go together"),
        ("stripeCount", "0", "number from 1"),
        ("mounter", "rbd-nbd", "auto, krbd, nbd, fuse"),
        ("mapOptions", "--exec=sh", "no option"),
        ("mkfsOptions", "ext4; reboot", "no option"),
        ("mkfsOptions", "/dev/sda", "no option"),
        ("mkfsOptions", "m0", "no option"),
        ("csi.storage.k8s.io/fstype", "btrfs", "ext4, xfs"),
        ("trashRetention", "soon", "24h"),
        ("trashRetention", "-1h", "24h"),
        ("trashRetention", "99999999h", "24h"),
        ("onDelete", "burn", "trash, purge, retain"),
        ("radosNamespace", "a/b", "letters"),
        ("radosNamespace", "a" * 33, "32"),
        ("pool", "a/b", "name of a pool"),
    ],
)
def test_a_parameter_that_cannot_be_is_refused_by_name(key: str, value: str, said: str) -> None:
    with pytest.raises(errors.InvalidParameterError, match=said) as refused:
        parameters.Parameters.parse({"pool": "kube", key: value})
    assert key.rpartition("/")[2] in str(refused.value)


def test_a_feature_that_the_kernel_cannot_map_is_refused_with_krbd() -> None:
    wanted = {"pool": "kube", "imageFeatures": "layering,exclusive-lock,journaling"}
    parameters.Parameters.parse(wanted | {"mounter": "nbd"})
    with pytest.raises(errors.InvalidParameterError, match="journaling"):
        parameters.Parameters.parse(wanted | {"mounter": "krbd"})


def test_what_a_class_says_is_read_with_its_units() -> None:
    read = parameters.Parameters.parse(
        {
            "pool": "kube",
            "objectSize": "8Mi",
            "stripeUnit": "64Ki",
            "stripeCount": "2",
            "trashRetention": "1h30m",
            "csi.storage.k8s.io/fstype": "xfs",
            "csi.storage.k8s.io/pvc/namespace": "shop",
            "csi.storage.k8s.io/provisioner-secret-name": "any",
            "mkfsOptions": "-m0 -E nodiscard,lazy_itable_init=1",
        }
    )
    assert (read.order, read.stripe_unit, read.stripe_count) == (23, 65536, 2)
    assert (read.trash_retention, read.fs_type) == (datetime.timedelta(minutes=90), "xfs")
    assert read.claim == ("shop", "")


def test_the_watchers_metadata_is_no_property_of_a_volume_but_the_filesystem_is() -> None:
    given = {"pool": "kube", "csi.storage.k8s.io/pv/name": "a", "csi.storage.k8s.io/fstype": "xfs"}
    assert parameters.own(given) == {"pool": "kube", "csi.storage.k8s.io/fstype": "xfs"}


def test_a_context_is_read_as_it_was_written() -> None:
    made = context.Context(cluster="a", pool="b", namespace="c", image="d", mounter="nbd", map_options="e")
    assert context.Context.decode({**made.encode(), "storage.kubernetes.io/csiProvisionerIdentity": "x"}) == made


@pytest.mark.parametrize("lacking", ["clusterID", "pool", "imageName"])
def test_a_context_that_names_no_image_is_refused(lacking: str) -> None:
    whole = context.Context(cluster="a", pool="b", image="d").encode()
    with pytest.raises(errors.InvalidRequestError, match=lacking):
        context.Context.decode({key: value for key, value in whole.items() if key != lacking})


def test_a_context_with_an_unknown_mounter_is_refused() -> None:
    whole = context.Context(cluster="a", pool="b", image="d").encode()
    with pytest.raises(errors.InvalidRequestError, match="krbd"):
        context.Context.decode(whole | {"mounter": "iscsi"})
