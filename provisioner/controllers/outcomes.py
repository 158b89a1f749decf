"""What a failed CreateVolume means: may the volume exist, and what happens next.

The four states are the stock provisioner's. A driver that answers INTERNAL or UNKNOWN has ended its work for good, by
the CSI specification's reading of "final"; one that may still be at it says ABORTED or lets the deadline pass.
"""

import enum

from provisioner import csiclient, errors


class State(enum.Enum):
    """What is known of the volume after an attempt.

    Attributes:
        FINISHED: the driver has ended its work: there is no volume, and the next attempt may ask for something else.
        IN_BACKGROUND: the volume may exist or come to be. Only the same call again can tell.
        NO_CHANGE: the driver was not reached: what was known before still holds.
        RESCHEDULE: no room here; the scheduler may choose another node.
    """

    FINISHED = "finished"
    IN_BACKGROUND = "in-background"
    NO_CHANGE = "no-change"
    RESCHEDULE = "reschedule"


_UNKNOWN_OUTCOME = frozenset(
    {
        csiclient.Code.CANCELLED,
        csiclient.Code.DEADLINE_EXCEEDED,
        csiclient.Code.UNAVAILABLE,
        csiclient.Code.ABORTED,
    }
)

AT_WORK = frozenset({csiclient.Code.ABORTED, csiclient.Code.DEADLINE_EXCEEDED})
"""The codes of a driver that is busy with the very thing that was asked."""


class NotReadyError(errors.ProvisionerError):
    """Something that the claim needs is not there yet; the driver was not asked."""


def of_error(error: errors.ProvisionerError | csiclient.CallError, *, can_reschedule: bool) -> State:
    """The state after an attempt that failed with `error`.

    Args:
        error: what the attempt raised.
        can_reschedule: a node was selected for the claim, and the driver knows topology.
    """
    if isinstance(error, csiclient.CallError):
        return _of_code(error.code, can_reschedule=can_reschedule)
    if isinstance(error, errors.InvalidRequestError):
        return State.FINISHED
    return State.NO_CHANGE


def _of_code(code: csiclient.Code, *, can_reschedule: bool) -> State:
    if code in _UNKNOWN_OUTCOME:
        return State.IN_BACKGROUND
    if code is csiclient.Code.RESOURCE_EXHAUSTED and can_reschedule:
        return State.RESCHEDULE
    return State.FINISHED


def infeasible(error: errors.ProvisionerError | csiclient.CallError) -> bool:
    """Whether the same claim of the same class can never succeed: it is retried slowly, or when either changes."""
    if isinstance(error, csiclient.CallError):
        return error.code is csiclient.Code.INVALID_ARGUMENT
    return isinstance(error, errors.InvalidRequestError)


def pending_reason(error: errors.ProvisionerError | csiclient.CallError) -> str:
    """The word under which a claim that failed so is counted."""
    return error.code.name.lower().replace("_", "-") if isinstance(error, csiclient.CallError) else "not-ready"
