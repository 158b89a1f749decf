"""What a failed CreateVolume means."""

import pytest

from provisioner import csiclient, errors
from provisioner.controllers import outcomes
from provisioner.kube import errors as kube_errors

Code = csiclient.Code
State = outcomes.State

_BACKGROUND: set[csiclient.Code] = {Code.CANCELLED, Code.DEADLINE_EXCEEDED, Code.UNAVAILABLE, Code.ABORTED}
_IN_ORDER = [code for code in Code if code in _BACKGROUND]
_FINAL = [code for code in Code if code not in _BACKGROUND | {Code.RESOURCE_EXHAUSTED}]


def _error(code: csiclient.Code) -> csiclient.CallError:
    return csiclient.CallError(code, "text", "CreateVolume")


@pytest.mark.parametrize("code", _IN_ORDER)
def test_an_answer_that_is_none_leaves_the_driver_at_work(code: csiclient.Code) -> None:
    assert State.IN_BACKGROUND is outcomes.of_error(_error(code), can_reschedule=True)


@pytest.mark.parametrize("code", _FINAL)
def test_every_other_answer_is_final_internal_and_unknown_included(code: csiclient.Code) -> None:
    assert State.FINISHED is outcomes.of_error(_error(code), can_reschedule=True)


def test_no_room_sends_a_claim_elsewhere_where_there_is_an_elsewhere() -> None:
    error = _error(Code.RESOURCE_EXHAUSTED)
    assert [outcomes.of_error(error, can_reschedule=can) for can in (True, False)] == [State.RESCHEDULE, State.FINISHED]


@pytest.mark.parametrize(
    "error",
    [outcomes.NotReadyError("no secret"), kube_errors.TransportError("no answer")],
)
def test_a_failure_on_the_way_to_the_driver_changes_nothing(error: errors.ProvisionerError) -> None:
    assert State.NO_CHANGE is outcomes.of_error(error, can_reschedule=True)


@pytest.mark.parametrize(
    ("error", "hopeless"),
    [
        (_error(Code.INVALID_ARGUMENT), True),
        (errors.InvalidParameterError("unknown key"), True),
        (_error(Code.INTERNAL), False),
        (outcomes.NotReadyError("no secret"), False),
    ],
)
def test_what_the_claim_or_class_itself_is_wrong_in_is_hopeless_until_it_changes(
    error: errors.ProvisionerError | csiclient.CallError, *, hopeless: bool
) -> None:
    assert hopeless == outcomes.infeasible(error)


def test_a_failed_claim_is_counted_under_the_drivers_word() -> None:
    assert outcomes.pending_reason(_error(Code.RESOURCE_EXHAUSTED)) == "resource-exhausted"
    assert outcomes.pending_reason(outcomes.NotReadyError("x")) == "not-ready"
