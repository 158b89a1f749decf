"""Which claims are ours, and what each is waiting for."""

import pytest

from provisioner.controllers import claims, names
from provisioner.kube import errors as kube_errors
from provisioner.kube import objects
from tests.unit.controllers import build

Step = claims.Step


def test_a_claim_of_our_class_is_provisioned_without_waiting_for_the_binder() -> None:
    assert Step.PROVISION is claims.judge(build.claim(), build.storage_class(), build.view()).step


def test_where_the_binder_binds_a_claim_waits_for_its_annotation() -> None:
    verdict = claims.judge(build.claim(), build.storage_class(), build.view(eager=False))
    assert (verdict.step, verdict.reason) == (Step.WAIT, "waiting-for-binder")


@pytest.mark.parametrize("key", [names.STORAGE_PROVISIONER, names.BETA_STORAGE_PROVISIONER])
def test_either_annotation_of_the_binder_asks_for_a_volume(key: str) -> None:
    asked = build.claim(annotations={key: build.DRIVER})
    assert Step.PROVISION is claims.judge(asked, build.storage_class(), build.view(eager=False)).step


def test_the_newer_annotation_wins_over_the_older_one() -> None:
    asked = build.claim(
        annotations={names.STORAGE_PROVISIONER: build.DRIVER, names.BETA_STORAGE_PROVISIONER: "other.example"}
    )
    assert Step.PROVISION is claims.judge(asked, build.storage_class(), build.view()).step


def test_a_claim_that_the_binder_asks_another_driver_for_is_ignored() -> None:
    asked = build.claim(annotations=build.asked("other.example"))
    assert Step.IGNORE is claims.judge(asked, build.storage_class(), build.view()).step


def test_a_class_of_another_provisioner_is_ignored_in_silence_though_the_annotation_names_us() -> None:
    verdict = claims.judge(
        build.claim(annotations=build.asked()), build.storage_class(provisioner="other.example"), build.view()
    )
    assert (verdict.step, verdict.message) == (Step.IGNORE, "")


def test_a_missing_class_is_said_and_retried_when_the_binder_has_asked_us() -> None:
    verdict = claims.judge(build.claim(annotations=build.asked()), None, build.view())
    assert Step.MISSING is verdict.step
    assert 'storageclass.storage.k8s.io "fast" not found' in verdict.message


def test_a_missing_class_that_nobody_says_is_ours_is_ignored() -> None:
    assert Step.IGNORE is claims.judge(build.claim(), None, build.view()).step


def test_the_beta_annotation_names_the_class_before_the_field_does() -> None:
    assert claims.class_name(build.claim(annotations={names.BETA_CLASS: "old"}, class_name="new")) == "old"


@pytest.mark.parametrize(
    "claim",
    [
        build.claim(volume_name="pv-1"),
        build.claim(deleted=True),
        build.claim(class_name=None),
        build.claim(class_name=""),
    ],
    ids=["bound", "being deleted", "no class yet", "no class at all"],
)
def test_a_claim_that_needs_no_volume_of_ours_is_ignored(claim: objects.PersistentVolumeClaim) -> None:
    assert Step.IGNORE is claims.judge(claim, build.storage_class(), build.view()).step


@pytest.mark.parametrize("annotations", [{}, {names.SELECTED_NODE: ""}])
def test_a_claim_that_waits_for_its_first_consumer_is_left_alone(annotations: dict[str, str]) -> None:
    claim = build.claim(annotations=build.asked() | annotations)
    verdict = claims.judge(claim, build.delayed(), build.view())
    assert (verdict.step, verdict.reason, verdict.message) == (Step.WAIT, "waiting-for-first-consumer", "")


def test_a_claim_whose_node_was_selected_is_provisioned() -> None:
    claim = build.claim(annotations={names.SELECTED_NODE: "n1"})
    assert Step.PROVISION is claims.judge(claim, build.delayed(), build.view()).step


def test_a_selector_is_refused_in_the_words_that_users_know() -> None:
    claim = build.claim(annotations=build.asked(), selector={"matchLabels": {"a": "b"}})
    verdict = claims.judge(claim, build.storage_class(), build.view())
    assert Step.REFUSE is verdict.step
    assert verdict.message.startswith("claim Selector is not supported")


def test_a_selector_may_still_find_a_volume_before_the_binder_asks_for_one() -> None:
    claim = build.claim(selector={"matchLabels": {"a": "b"}})
    assert Step.WAIT is claims.judge(claim, build.storage_class(), build.view()).step


def test_an_unknown_kind_of_data_source_is_left_to_its_populator() -> None:
    source = objects.TypedReference(api_group="backup.example", kind="Backup", name="b")
    claim = build.claim(annotations=build.asked(), data_source_ref=source)
    verdict = claims.judge(claim, build.storage_class(), build.view())
    assert Step.POPULATE is verdict.step
    assert verdict.message.startswith("Assuming an external populator will provision the volume")


@pytest.mark.parametrize(
    ("group", "kind"), [("snapshot.storage.k8s.io", "VolumeSnapshot"), ("", "PersistentVolumeClaim")]
)
def test_a_snapshot_or_claim_as_the_source_is_refused_and_not_ignored(group: str, kind: str) -> None:
    source = objects.TypedReference(api_group=group, kind=kind, name="s")
    claim = build.claim(annotations=build.asked(), data_source=source)
    verdict = claims.judge(claim, build.storage_class(), build.view())
    assert Step.REFUSE is verdict.step
    assert f"a {kind} as the data source of a claim is not supported yet" in verdict.message


def test_a_volume_attributes_class_is_refused_because_it_would_be_ignored() -> None:
    claim = build.claim(volume_attributes_class_name="gold")
    verdict = claims.judge(claim, build.storage_class(), build.view())
    assert Step.REFUSE is verdict.step
    assert "VolumeAttributesClass gold cannot be applied" in verdict.message


@pytest.mark.parametrize("size", ["0", "-1Gi", "", "ten", "1Qi", "9E99"])
def test_a_size_that_is_none_is_refused(size: str) -> None:
    verdict = claims.judge(build.claim(size=size), build.storage_class(), build.view())
    assert (verdict.step, bool(verdict.message)) == (Step.REFUSE, True)


@pytest.mark.parametrize(("text", "size"), [("1Mi", 1048576), ("1.5Gi", 1610612736), ("0.5", 1), ("1e3", 1000)])
def test_a_size_is_rounded_up_to_whole_bytes(text: str, size: int) -> None:
    assert size == claims.requested_bytes(build.claim(size=text))


def test_zero_bytes_are_no_size() -> None:
    with pytest.raises(kube_errors.QuantityError, match="ask for more than 0"):
        claims.requested_bytes(build.claim(size="0"))


# An Available volume that fits wins, as it would with the binder.

_CLAIM_REF = objects.ObjectReference(namespace="app", name="data")
_OTHER_REF = objects.ObjectReference(namespace="app", name="other")


@pytest.mark.parametrize(
    ("volume", "waits"),
    [
        (build.volume(), True),
        (build.volume(size="2Gi"), True),
        (build.volume(size="1Mi"), False),
        (build.volume(access_modes=("ReadOnlyMany",)), False),
        (build.volume(claim_ref=_CLAIM_REF), True),
        (build.volume(claim_ref=_CLAIM_REF, size="1Mi"), True),
        (build.volume(claim_ref=_OTHER_REF), False),
        (build.volume(claim_ref=objects.ObjectReference(namespace="app", name="data", uid="u1")), False),
        (build.volume(size="what"), True),
    ],
    ids=["fits", "larger", "too small", "mode", "reserved", "reserved small", "other's", "taken", "unreadable"],
)
def test_a_claim_waits_for_the_binder_where_an_available_volume_may_be_given_to_it(
    volume: objects.PersistentVolume, *, waits: bool
) -> None:
    verdict = claims.judge(build.claim(), build.storage_class(), build.view(), [volume])
    assert (Step.WAIT if waits else Step.PROVISION) is verdict.step


def test_the_binder_has_seen_the_available_volumes_when_it_asks_for_another() -> None:
    claim = build.claim(annotations=build.asked())
    assert Step.PROVISION is claims.judge(claim, build.storage_class(), build.view(), [build.volume()]).step


# Per-node mode.


def test_a_node_provisions_what_was_scheduled_to_it() -> None:
    claim = build.claim(annotations={names.SELECTED_NODE: "n1"})
    assert Step.PROVISION is claims.judge(claim, build.delayed(), build.view(node_name="n1")).step


def test_a_node_says_nothing_of_what_was_scheduled_elsewhere_however_wrong_it_is() -> None:
    claim = build.claim(annotations=build.asked() | {names.SELECTED_NODE: "n2"}, selector={})
    verdict = claims.judge(claim, build.delayed(), build.view(node_name="n1"))
    assert (verdict.step, verdict.message) == (Step.IGNORE, "")


def test_an_immediate_claim_without_a_node_is_for_the_nodes_to_agree_on() -> None:
    claim = build.claim(annotations=build.asked())
    assert Step.ASSIGN is claims.judge(claim, build.storage_class(), build.view(node_name="n1")).step


def test_a_node_takes_no_claim_before_the_binder_has_asked_for_its_volume() -> None:
    verdict = claims.judge(build.claim(), build.storage_class(), build.view(node_name="n1"))
    assert verdict == claims.Verdict(Step.WAIT, "waiting-for-binder")


def test_a_node_says_nothing_of_a_missing_class() -> None:
    claim = build.claim(annotations=build.asked())
    assert Step.IGNORE is claims.judge(claim, None, build.view(node_name="n1")).step
