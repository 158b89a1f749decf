"""The errors that the program raises on purpose, and nothing else.

Every error says what is wrong (`message`) and, where somebody can do something about it, what to do (`remedy`).
Both reach the user unchanged: as the gRPC status, as the event on the claim, and in the log.

    ProvisionerError
    ├── InvalidRequestError         the request can never succeed as it is written
    │   └── InvalidParameterError       … because of one StorageClass parameter
    ├── VolumeNotFoundError         there is no volume of this id
    ├── SnapshotNotFoundError       there is no snapshot of this id
    ├── NodeNotFoundError           there is no node of this name
    ├── VolumeExistsError           there is a volume of this name, and it is a different one
    ├── SnapshotExistsError         there is a snapshot of this name, and it is of another volume
    ├── VolumeInUseError            the volume is mounted or watched: what was asked would take it from its user
    ├── SnapshotInUseError          volumes depend on the snapshot, and it cannot go before they do
    ├── NotReadyError               the volume is not in the state that this needs: its data is damaged, or not staged
    ├── SizeOutOfRangeError         no volume of this size can exist, on this node or another
    ├── InsufficientCapacityError   the pool has no room for it; another may, or this one later
    ├── OperationPendingError       the same volume is being worked on
    ├── InvalidPageTokenError       a listing cannot go on from this token
    ├── UnsupportedError            the program does not offer this operation
    ├── SocketUnavailableError      the program cannot serve on its unix socket
    └── BackendUnavailableError     the storage cannot be used now: unmounted, replaced, read-only, unreachable
        ├── AccessDeniedError           … the storage refuses the user or key that it was given
        └── VolumeQuarantinedError      … this one volume cannot: its record is unreadable
"""


class ProvisionerError(Exception):
    """Base of every error raised on purpose.

    Attributes:
        message: what is wrong, for a reader who knows Kubernetes but not this program.
        remedy: what to do about it; empty where there is nothing to do but wait.
    """

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message, remedy)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}" if self.remedy else self.message


class InvalidRequestError(ProvisionerError):
    """The request can never succeed as it is written."""


class InvalidParameterError(InvalidRequestError):
    """A StorageClass parameter is unknown or has a value it cannot have."""


class VolumeNotFoundError(ProvisionerError):
    """There is no volume of this id."""


class SnapshotNotFoundError(ProvisionerError):
    """There is no snapshot of this id."""


class NodeNotFoundError(ProvisionerError):
    """There is no node of this name."""


class VolumeExistsError(ProvisionerError):
    """There is a volume of this name already, with other properties than those asked for."""


class VolumeInUseError(ProvisionerError):
    """The volume is in use, and what was asked for would take it from its user."""


class SnapshotExistsError(ProvisionerError):
    """There is a snapshot of this name already, and it is of another volume."""


class SnapshotInUseError(ProvisionerError):
    """Volumes depend on the snapshot, and it cannot go before they do."""


class NotReadyError(ProvisionerError):
    """The volume is not in the state that the call needs; it is untouched."""


class SizeOutOfRangeError(ProvisionerError):
    """No volume of this size can exist, however empty the pool is, on this node or another."""


class InsufficientCapacityError(ProvisionerError):
    """The pool has no room for the volume; it may have some later, or another one may."""


class OperationPendingError(ProvisionerError):
    """The same volume is being worked on; the call may be repeated."""


class InvalidPageTokenError(ProvisionerError):
    """A listing cannot go on from this token."""


class UnsupportedError(ProvisionerError):
    """The program does not offer this operation."""


class SocketUnavailableError(ProvisionerError):
    """The program cannot serve on its unix socket: another process does, or the path cannot be used."""


class BackendUnavailableError(ProvisionerError):
    """The storage cannot be used now; nothing was changed that a repeated call would not find."""


class AccessDeniedError(BackendUnavailableError):
    """The storage refuses the user or the key that it was given."""


class VolumeQuarantinedError(BackendUnavailableError):
    """The record of this one volume is unreadable; its data is untouched, and every other volume works."""
