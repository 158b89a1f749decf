"""The CreateVolume request of a claim."""

import pytest

from provisioner import errors, model
from provisioner.controllers import names, secrets
from tests.unit.controllers import build

Mode = model.AccessMode


def test_a_volume_is_named_after_the_claims_uid_and_as_large_as_it_asks() -> None:
    request = build.intent(build.claim(uid="abc", size="2Gi")).request
    assert ("pvc-abc", model.SizeRange(required=2 * model.GIB)) == (request.name, request.size)


def test_the_prefix_of_the_name_can_be_chosen() -> None:
    assert build.intent(build.claim(uid="abc"), volume_name_prefix="vol").request.name == "vol-abc"


@pytest.mark.parametrize(
    ("written", "plain", "exact"),
    [
        ("ReadWriteOnce", Mode.SINGLE_NODE_WRITER, Mode.SINGLE_NODE_MULTI_WRITER),
        ("ReadWriteOncePod", Mode.SINGLE_NODE_WRITER, Mode.SINGLE_NODE_SINGLE_WRITER),
        ("ReadOnlyMany", Mode.MULTI_NODE_READER_ONLY, Mode.MULTI_NODE_READER_ONLY),
        ("ReadWriteMany", Mode.MULTI_NODE_MULTI_WRITER, Mode.MULTI_NODE_MULTI_WRITER),
    ],
)
def test_an_access_mode_is_told_as_exactly_as_the_driver_understands(
    written: str, plain: model.AccessMode, exact: model.AccessMode
) -> None:
    claim = build.claim(access_modes=(written,))
    told = [
        build.intent(claim, by=build.driver(multi_writer=knows)).request.capabilities[0].access_mode
        for knows in (False, True)
    ]
    assert [plain, exact] == told


def test_each_access_mode_of_the_claim_is_a_capability_of_its_own() -> None:
    claim = build.claim(access_modes=("ReadWriteOnce", "ReadOnlyMany"))
    told = build.intent(claim).request.capabilities
    assert [one.access_mode for one in told] == [Mode.SINGLE_NODE_WRITER, Mode.MULTI_NODE_READER_ONLY]


def test_filesystem_and_mount_options_of_the_class_reach_the_driver() -> None:
    of_class = build.storage_class(
        mount_options=("ro", "noatime"), parameters={f"{names.PARAMETER_PREFIX}fstype": "xfs"}
    )
    told = build.intent(of_class=of_class).request.capabilities[0]
    assert (told.access_type, told.fs_type, told.mount_flags) == (model.AccessType.MOUNT, "xfs", ("ro", "noatime"))


def test_a_block_volume_has_neither_filesystem_nor_mount_options() -> None:
    of_class = build.storage_class(mount_options=("ro",), parameters={f"{names.PARAMETER_PREFIX}fstype": "xfs"})
    intent = build.intent(build.claim(volume_mode="Block"), of_class)
    told = intent.request.capabilities[0]
    assert (told.access_type, told.fs_type, told.mount_flags) == (model.AccessType.BLOCK, "", ())
    assert intent.fs_type == ""


def test_the_driver_is_told_for_whom_the_volume_is_unless_the_operator_objects() -> None:
    of_class = build.storage_class(parameters={"pool": "a"})
    told = build.intent(of_class=of_class).request.parameters
    assert (told["pool"], told["csi.storage.k8s.io/pvc/name"]) == ("a", "data")
    assert build.intent(of_class=of_class, extra_create_metadata=False).request.parameters == {"pool": "a"}


def test_secrets_are_referred_to_and_never_part_of_what_is_remembered() -> None:
    of_class = build.storage_class(
        parameters={
            f"{names.PARAMETER_PREFIX}provisioner-secret-name": "${pvc.name}",
            f"{names.PARAMETER_PREFIX}provisioner-secret-namespace": "storage",
        }
    )
    intent = build.intent(of_class=of_class)
    assert {"provisioner-secret": secrets.Reference("data", "storage")} == intent.secrets
    assert intent.request.secrets == {}


def test_a_class_key_of_ours_that_means_nothing_is_an_error() -> None:
    with pytest.raises(errors.InvalidParameterError):
        build.intent(of_class=build.storage_class(parameters={f"{names.PARAMETER_PREFIX}nonsense": "x"}))


@pytest.mark.parametrize(("topology", "node", "can"), [(True, "n", True), (True, "", False), (False, "n", False)])
def test_a_claim_can_go_elsewhere_where_a_node_was_selected_and_the_driver_knows_places(
    topology: bool,
    node: str,
    can: bool,
) -> None:
    claim = build.claim(annotations={names.SELECTED_NODE: node})
    assert can == build.intent(claim, by=build.driver(topology=topology)).can_reschedule


def test_the_same_claim_and_class_make_the_same_request() -> None:
    assert build.intent() == build.intent()
