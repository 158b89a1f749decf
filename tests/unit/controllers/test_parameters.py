"""What a StorageClass says to us, and what it says to the driver."""

import pytest

from provisioner import errors
from provisioner.controllers import names, parameters


def test_our_keys_are_taken_out_and_the_drivers_left_as_they_are() -> None:
    found = parameters.split(
        {
            "pool": "a",
            "fstype": "the driver's own",
            f"{names.PARAMETER_PREFIX}fstype": "ext4",
            f"{names.PARAMETER_PREFIX}secret-name": "s",
            f"{names.PARAMETER_PREFIX}secret-namespace": "ns",
        }
    )
    assert parameters.Parameters({"pool": "a", "fstype": "the driver's own"}, "ext4") == found


def test_an_unknown_key_of_ours_is_refused_with_the_nearest_one_that_exists() -> None:
    with pytest.raises(errors.InvalidParameterError, match=r"did you mean csi\.storage\.k8s\.io/fstype\?"):
        parameters.split({f"{names.PARAMETER_PREFIX}fs-type": "ext4"})


def test_the_metadata_tells_for_whom_the_volume_is() -> None:
    assert parameters.metadata(claim_name="data", namespace="app", pv_name="pvc-1") == {
        "csi.storage.k8s.io/pvc/name": "data",
        "csi.storage.k8s.io/pvc/namespace": "app",
        "csi.storage.k8s.io/pv/name": "pvc-1",
    }
