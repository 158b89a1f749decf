"""What goes wrong at a Ceph cluster, told apart by class; nobody else sees an errno or an exception of the binding.

BackendUnavailableError
├── BindingMissingError             this machine lacks librados, librbd or their Python binding
├── ClusterUnreachableError         no monitor answered within the time for connecting
├── TimedOutError                   a call took too long: whether it was carried out is UNKNOWN, look again
├── ReadOnlyError                   the image cannot be written to: locked, or its lock cannot be had in time
├── BlocklistedError                this client was fenced off; its connection is of no more use
├── ClusterError                    Ceph answered with an error that has no class of its own
└── AccessDeniedError
    ├── AuthenticationError         the user does not exist, or its key is another one
    └── NotPermittedError           the user exists, and its capabilities do not cover the call
InvalidRequestError
├── InvalidImageError               no image can be like this: its size, features or striping
└── InvalidParameterError
    ├── PoolNotFoundError           the cluster has no such pool
    └── NamespaceNotFoundError      the pool has no such namespace
VolumeNotFoundError
└── ImageNotFoundError              there is no image of this name or id
    └── ImageIncompleteError        … but traces of one whose creation was cut short: remove it, make it anew
VolumeExistsError
└── ImageExistsError                the name is taken, by a whole image or by traces of one
VolumeInUseError
├── ImageBusyError                  the image is open or watched elsewhere
└── ImageHasSnapshotsError          it cannot go before its snapshots (and their children) do
SnapshotNotFoundError
└── NoSuchSnapshotError             the image has no such snapshot
SnapshotExistsError
└── SnapshotTakenError              the image has a snapshot of this name
SnapshotInUseError
└── SnapshotBusyError               it is protected, or has children
SizeOutOfRangeError
└── ShrinkRefusedError              the image is larger than it is to become
InsufficientCapacityError
└── QuotaExceededError              the pool, or the cluster, is full
OperationPendingError
└── LockHeldError                   somebody else holds the advisory lock
NotReadyError
└── TrashRetainedError              its time in the trash is not over
"""

from provisioner import errors


class BindingMissingError(errors.BackendUnavailableError):
    """This machine lacks librados, librbd or their Python binding."""


class ClusterUnreachableError(errors.BackendUnavailableError):
    """No monitor answered within the time for connecting."""


class TimedOutError(errors.BackendUnavailableError):
    """A call took too long; whether it was, or will yet be, carried out is unknown."""


class ReadOnlyError(errors.BackendUnavailableError):
    """The image cannot be written to: somebody holds its lock, or it could not be had in time."""


class BlocklistedError(errors.BackendUnavailableError):
    """This client was fenced off by Ceph's blocklist; its connection is of no more use."""


class ClusterError(errors.BackendUnavailableError):
    """Ceph answered with an error that has no class of its own."""


class AuthenticationError(errors.AccessDeniedError):
    """The user does not exist, or its key is another one."""


class NotPermittedError(errors.AccessDeniedError):
    """The user exists, and its capabilities do not cover the call."""


class InvalidImageError(errors.InvalidRequestError):
    """No image can be like this: its size, features or striping."""


class PoolNotFoundError(errors.InvalidParameterError):
    """The cluster has no such pool."""


class NamespaceNotFoundError(errors.InvalidParameterError):
    """The pool has no such namespace."""


class ImageNotFoundError(errors.VolumeNotFoundError):
    """There is no image of this name or id."""


class ImageIncompleteError(ImageNotFoundError):
    """There is no such image, but traces of one whose creation was cut short; `remove` clears them away."""


class ImageExistsError(errors.VolumeExistsError):
    """The name is taken, by a whole image or by traces of one."""


class ImageBusyError(errors.VolumeInUseError):
    """The image is open or watched elsewhere."""


class ImageHasSnapshotsError(errors.VolumeInUseError):
    """The image cannot go before its snapshots do."""


class NoSuchSnapshotError(errors.SnapshotNotFoundError):
    """The image has no such snapshot."""


class SnapshotTakenError(errors.SnapshotExistsError):
    """The image has a snapshot of this name already."""


class SnapshotBusyError(errors.SnapshotInUseError):
    """The snapshot is protected, or has children."""


class ShrinkRefusedError(errors.SizeOutOfRangeError):
    """The image is larger than it is to become."""


class QuotaExceededError(errors.InsufficientCapacityError):
    """The pool, or the cluster, is full."""


class LockHeldError(errors.OperationPendingError):
    """Somebody else holds the advisory lock."""


class TrashRetainedError(errors.NotReadyError):
    """The image's time in the trash is not over."""
