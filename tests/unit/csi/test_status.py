"""Each error of the tree has its own gRPC status."""

from collections.abc import Iterator

import grpc
import pytest

from provisioner import errors
from provisioner.csi import status

CREATE = "/csi.v1.Controller/CreateVolume"
GET = "/csi.v1.Controller/ControllerGetVolume"


def tree(root: type[errors.ProvisionerError]) -> Iterator[type[errors.ProvisionerError]]:
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from tree(child)


@pytest.mark.parametrize("kind", list(tree(errors.ProvisionerError)))
def test_every_error_of_the_tree_is_expected_and_tells_its_message(kind: type[errors.ProvisionerError]) -> None:
    found = status.of(kind("what is wrong", remedy="what to do"), method=GET, request_id="r")

    assert found.expected
    assert found.message == "what is wrong; what to do"
    assert found.code not in {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.OK}


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.InvalidRequestError, grpc.StatusCode.INVALID_ARGUMENT),
        (errors.InvalidParameterError, grpc.StatusCode.INVALID_ARGUMENT),
        (errors.VolumeNotFoundError, grpc.StatusCode.NOT_FOUND),
        (errors.SnapshotNotFoundError, grpc.StatusCode.NOT_FOUND),
        (errors.NodeNotFoundError, grpc.StatusCode.NOT_FOUND),
        (errors.VolumeExistsError, grpc.StatusCode.ALREADY_EXISTS),
        (errors.SnapshotExistsError, grpc.StatusCode.ALREADY_EXISTS),
        (errors.VolumeInUseError, grpc.StatusCode.FAILED_PRECONDITION),
        (errors.SnapshotInUseError, grpc.StatusCode.FAILED_PRECONDITION),
        (errors.NotReadyError, grpc.StatusCode.FAILED_PRECONDITION),
        (errors.SizeOutOfRangeError, grpc.StatusCode.OUT_OF_RANGE),
        (errors.InsufficientCapacityError, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (errors.OperationPendingError, grpc.StatusCode.ABORTED),
        (errors.InvalidPageTokenError, grpc.StatusCode.ABORTED),
        (errors.UnsupportedError, grpc.StatusCode.UNIMPLEMENTED),
        (errors.BackendUnavailableError, grpc.StatusCode.UNAVAILABLE),
        (errors.AccessDeniedError, grpc.StatusCode.UNAVAILABLE),
        (errors.VolumeQuarantinedError, grpc.StatusCode.UNAVAILABLE),
    ],
)
def test_each_error_has_the_code_of_the_specification(
    kind: type[errors.ProvisionerError], code: grpc.StatusCode
) -> None:
    assert status.of(kind("x"), method=CREATE, request_id="r").code is code


def test_a_subclass_that_the_table_does_not_name_has_its_parents_code() -> None:
    class NoMoreInodesError(errors.InsufficientCapacityError):
        pass

    found = status.of(NoMoreInodesError("x"), method=CREATE, request_id="r")

    assert found.code is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    "method",
    [
        CREATE,
        "/csi.v1.Controller/DeleteVolume",
        "/csi.v1.Controller/ControllerExpandVolume",
        "/csi.v1.Controller/ControllerPublishVolume",
        "/csi.v1.Controller/ControllerUnpublishVolume",
        "/csi.v1.Controller/CreateSnapshot",
        "/csi.v1.Controller/DeleteSnapshot",
        "/csi.v1.Node/NodeStageVolume",
        "/csi.v1.Node/NodeUnstageVolume",
        "/csi.v1.Node/NodePublishVolume",
        "/csi.v1.Node/NodeUnpublishVolume",
        "/csi.v1.Node/NodeExpandVolume",
    ],
)
def test_an_unexpected_failure_of_a_change_is_not_final(method: str) -> None:
    found = status.of(RuntimeError("password=hunter2"), method=method, request_id="0badcafe")

    assert (found.code, found.expected) == (grpc.StatusCode.ABORTED, False)
    assert found.message == (
        "unexpected RuntimeError; the driver's log has it under request 0badcafe; "
        "how far the change went is unknown, repeat the call"
    )


def test_an_unexpected_failure_of_a_look_is_internal() -> None:
    found = status.of(KeyError("secret"), method=GET, request_id="0badcafe")

    assert (found.code, found.expected) == (grpc.StatusCode.INTERNAL, False)
    assert found.message == "unexpected KeyError; the driver's log has it under request 0badcafe"


def test_a_message_is_cut_before_it_is_too_long_for_its_header() -> None:
    assert len(status.of(errors.InvalidRequestError("x" * 9000), method=CREATE, request_id="r").message) == 2048


def test_a_message_in_any_script_is_cut_to_the_bytes_of_its_header() -> None:
    message = status.of(errors.InvalidRequestError("\u8a9e" * 3000), method=CREATE, request_id="r").message
    assert message == "\u8a9e" * (2048 // 3)


def test_a_name_that_is_not_utf8_can_be_sent() -> None:
    found = status.of(errors.VolumeInUseError("mounted at /a\udcff"), method=CREATE, request_id="r")
    assert found.message == "mounted at /a\\udcff"
