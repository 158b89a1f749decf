"""What the API server, or the way to it, can answer instead of an object.

KubeError
├── ConfigError             the connection settings are missing or wrong: nothing was sent
├── QuantityError           a quantity ("1Gi") is malformed
├── TransportError          no answer: a read may be repeated, the outcome of a write is unknown
│   └── NotSentError            … but the request never left, so that a write surely did not happen
│       └── TlsError                … because the server and this program do not trust each other
├── DecodeError             an answer that cannot be read
└── ApiError                the API server refused
    ├── UnauthorizedError       401
    ├── ForbiddenError          403: says which verb on which resource RBAC lacks
    ├── NotFoundError           404
    ├── AlreadyExistsError      409 on a create
    ├── ConflictError           409: the object has changed, or a precondition does not hold
    ├── ExpiredError            410: the resource version is too old to go on from
    ├── InvalidError            422, 400: the object or patch can never be accepted as it is
    ├── TooManyRequestsError    429: not now
    └── ServerError             5xx
"""

import http
from collections.abc import Mapping

import msgspec

from provisioner import errors


class KubeError(errors.ProvisionerError):
    """Base of everything that goes wrong with the Kubernetes API."""


class ConfigError(KubeError):
    """The connection settings are missing or wrong."""


class QuantityError(KubeError):
    """A Kubernetes quantity is malformed."""


class TransportError(KubeError):
    """There was no answer; a write may have happened or not, so the caller reads again."""


class NotSentError(TransportError):
    """There was no connection to send the request over; a write surely did not happen."""


class TlsError(NotSentError):
    """The server's certificate is not trusted, or ours is not by the server."""


class DecodeError(KubeError):
    """The API server's answer cannot be read."""


class ApiError(KubeError):
    """The API server refused.

    Attributes:
        status: the HTTP status.
        reason: the API's machine-readable reason (`AlreadyExists`), empty where the server gave none.
    """

    def __init__(self, message: str, *, status: int, reason: str = "", remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.status = status
        self.reason = reason


class UnauthorizedError(ApiError):
    """The API server does not know who we are."""


class ForbiddenError(ApiError):
    """RBAC does not allow it."""


class NotFoundError(ApiError):
    """There is no such object, by the API server's own word.

    A bare 404, as a proxy in between gives it, proves nothing and is an `ApiError`: volumes are deleted on this one.
    """


class AlreadyExistsError(ApiError):
    """There is an object of this name already."""


class ConflictError(ApiError):
    """The object changed meanwhile, or a precondition (uid, resourceVersion) does not hold."""


class ExpiredError(ApiError):
    """The resource version or the continue token is too old; list again."""


class InvalidError(ApiError):
    """The object or the patch can never be accepted as it is."""


class TooManyRequestsError(ApiError):
    """The API server asks for patience.

    Attributes:
        retry_after: seconds to wait at least; zero where the server named none.
    """

    def __init__(self, message: str, *, reason: str = "", retry_after: float = 0.0) -> None:
        super().__init__(message, status=http.HTTPStatus.TOO_MANY_REQUESTS, reason=reason)
        self.retry_after = retry_after


class ServerError(ApiError):
    """The API server failed."""


class _Cause(msgspec.Struct):
    field: str = ""


class _Details(msgspec.Struct):
    causes: tuple[_Cause, ...] = ()


class _Status(msgspec.Struct):
    """`meta/v1 Status`: how the API server says no."""

    message: str = ""
    reason: str = ""
    code: int = 0
    details: _Details | None = None

    def names(self, field: str) -> bool:
        """Whether this field is a cause."""
        return self.details is not None and any(cause.field == field for cause in self.details.causes)


_BY_STATUS: Mapping[int, type[ApiError]] = {
    http.HTTPStatus.BAD_REQUEST: InvalidError,
    http.HTTPStatus.UNAUTHORIZED: UnauthorizedError,
    http.HTTPStatus.FORBIDDEN: ForbiddenError,
    http.HTTPStatus.NOT_FOUND: NotFoundError,
    http.HTTPStatus.CONFLICT: ConflictError,
    http.HTTPStatus.GONE: ExpiredError,
    http.HTTPStatus.UNPROCESSABLE_ENTITY: InvalidError,
}

_REMEDIES: Mapping[type[ApiError], str] = {
    UnauthorizedError: "check the token or client certificate of the kubeconfig or service account; it is read again",
    ForbiddenError: "grant it to the account that this program runs as (ClusterRole); it is tried again",
}

_PLAIN_TEXT_LIMIT = 200


def from_response(status: int, body: bytes, *, doing: str, retry_after: float = 0.0) -> ApiError:
    """The error for one HTTP answer, or for the `Status` object of a watch's ERROR event.

    Args:
        status: the HTTP status; zero where the `Status` in `body` is all there is.
        body: the answer, a `Status` in JSON or any text.
        doing: what was tried (`patch persistentvolumes "pvc-1"`), the beginning of the message.
        retry_after: the seconds of the Retry-After header.
    """
    try:
        said = msgspec.json.decode(body, type=_Status)
    except msgspec.MsgspecError:
        said = _Status(message=body[:_PLAIN_TEXT_LIMIT].decode(errors="replace").strip())
    status = status or said.code
    message = f"cannot {doing}: {said.message or f'the API server answered {status}'}"
    if status == http.HTTPStatus.TOO_MANY_REQUESTS:
        return TooManyRequestsError(message, reason=said.reason, retry_after=retry_after)
    kind = _class_of(status, said)
    return kind(message, status=status, reason=said.reason, remedy=_REMEDIES.get(kind, ""))


def _class_of(status: int, said: _Status) -> type[ApiError]:
    if status == http.HTTPStatus.CONFLICT and said.reason == "AlreadyExists":
        return AlreadyExistsError
    if status == http.HTTPStatus.UNPROCESSABLE_ENTITY and said.names("metadata.uid"):
        return ConflictError  # a patch meant for a namesake; only a deletion is answered 409 for that
    if status == http.HTTPStatus.NOT_FOUND and said.reason != "NotFound":
        return ApiError
    if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
        return ServerError
    return _BY_STATUS.get(status, ApiError)
