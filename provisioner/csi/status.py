"""Every error becomes a gRPC status here, and nowhere else.

The codes are the CSI specification's, with one addition that Kubernetes asks for. To a provisioner, INTERNAL and
UNKNOWN are final: the call is over and nothing came of it, so a claim that is deleted now leaves nobody who would
look for the volume. Of a bug in the middle of a change we know no such thing: the change may be half done or complete.
A call that changes something therefore answers ABORTED to an unexpected failure, and is repeated with the same
arguments until it says how it ended. A call that only looks answers INTERNAL.

`status.details` stays empty, as CSI demands: only a code and a message are sent.
"""

import dataclasses

import grpc

from provisioner import errors

# An HTTP/2 header of more than 8 KiB is refused by the client, and the message with it. A byte takes up to three there.
_MAX_MESSAGE = 2048

# The first row whose class the error is an instance of counts.
_CODES: tuple[tuple[type[errors.ProvisionerError], grpc.StatusCode], ...] = (
    (errors.InvalidRequestError, grpc.StatusCode.INVALID_ARGUMENT),
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
    (errors.SocketUnavailableError, grpc.StatusCode.UNAVAILABLE),
)

_CHANGING = frozenset(
    {
        "/csi.v1.Controller/CreateVolume",
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
    }
)
_PROBE = "/csi.v1.Identity/Probe"


@dataclasses.dataclass(frozen=True, slots=True)
class Status:
    """How a call failed.

    Attributes:
        expected: the error was raised on purpose, so that its message says everything.
    """

    code: grpc.StatusCode
    message: str
    expected: bool = True


def of(error: Exception, *, method: str, request_id: str) -> Status:
    """The status for an error that a call of `method` (`/csi.v1.Controller/CreateVolume`) ended with.

    The message of an unexpected error stays in the log, under `request_id`: nobody has checked it for secrets.
    """
    if isinstance(error, NotImplementedError):
        return Status(grpc.StatusCode.UNIMPLEMENTED, f"{method} is not offered by this driver")
    for kind, code in _CODES:
        if isinstance(error, kind):
            return Status(_special(code, method), _sendable(str(error)))
    log_hint = f"unexpected {type(error).__name__}; the driver's log has it under request {request_id}"
    if method in _CHANGING:
        return Status(
            grpc.StatusCode.ABORTED, f"{log_hint}; how far the change went is unknown, repeat the call", expected=False
        )
    return Status(grpc.StatusCode.INTERNAL, log_hint, expected=False)


def _sendable(text: str) -> str:
    """The text as gRPC can send it: names on disk need not be UTF-8, and gRPC would then never answer."""
    return text.encode("utf-8", "backslashreplace")[:_MAX_MESSAGE].decode("utf-8", "ignore")


def _special(code: grpc.StatusCode, method: str) -> grpc.StatusCode:
    """CSI has a code of its own for a plugin that is unhealthy when it is probed."""
    if method == _PROBE and code is grpc.StatusCode.UNAVAILABLE:
        return grpc.StatusCode.FAILED_PRECONDITION
    return code
