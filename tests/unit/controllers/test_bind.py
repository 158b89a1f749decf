"""Binding claims faster than the binder may, and never before it knows the volumes."""

import asyncio
import functools

import pytest

from provisioner.controllers import names
from provisioner.kube import objects
from tests.fakes import apiserver, clock
from tests.unit.controllers import conftest

Cluster = conftest.Cluster


def _outcome(cluster: Cluster, outcome: str) -> float:
    return cluster.counted("provisioner_bind_total", outcome=outcome)


def _is_bound(cluster: Cluster, name: str) -> bool:
    return cluster.phase(name) == "Bound"


def _writes(cluster: Cluster) -> list[tuple[str, str, str]]:
    return [
        (r.verb, r.plural, r.subresource)
        for r in cluster.api.requests
        if r.verb in {"create", "patch"} and r.plural != "events"
    ]


async def test_a_claim_ends_as_the_binder_would_leave_it(cluster: Cluster) -> None:
    await cluster.start()
    cluster.run(cluster.answer_pulses)
    cluster.add_claim()
    await cluster.until(lambda: _outcome(cluster, "eager") == 1)
    claim, volume = cluster.claim(), cluster.volume_of()
    assert claim["metadata"]["annotations"] == {
        "pv.kubernetes.io/bind-completed": "yes",
        "pv.kubernetes.io/bound-by-controller": "yes",
    }
    assert volume["metadata"]["name"] == claim["spec"]["volumeName"]
    assert claim["status"] == {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}
    assert ("Bound", claim["metadata"]["uid"]) == (volume["status"]["phase"], volume["spec"]["claimRef"]["uid"])
    assert "annotations" not in volume["metadata"] or (
        names.BOUND_BY_CONTROLLER not in volume["metadata"]["annotations"]
    )


async def test_no_claim_says_it_is_bound_before_the_binder_has_answered(cluster: Cluster) -> None:
    await cluster.start()
    cluster.add_claim()
    await cluster.until(cluster.markers)
    await asyncio.sleep(0.05)
    assert "volumeName" not in cluster.claim()["spec"]
    cluster.run(cluster.answer_pulses)
    await cluster.until(lambda: cluster.phase() == "Bound")
    order = _writes(cluster)
    marker = order.index(("create", "persistentvolumes", ""), order.index(("create", "persistentvolumes", "")) + 1)
    assert marker < order.index(("patch", "persistentvolumeclaims", ""))


async def test_claim_and_volume_are_bound_before_their_statuses_say_so(cluster: Cluster) -> None:
    await cluster.start()
    cluster.run(cluster.answer_pulses)
    cluster.add_claim()
    await cluster.until(lambda: _outcome(cluster, "eager") == 1)
    order = [write for write in _writes(cluster) if write[1] == "persistentvolumeclaims"]
    assert order == [("patch", "persistentvolumeclaims", ""), ("patch", "persistentvolumeclaims", "status")]


async def test_a_marker_can_never_be_anybodys_volume_and_goes_when_it_has_served(cluster: Cluster) -> None:
    await cluster.start()
    cluster.add_claim()
    await cluster.until(cluster.markers)
    marker = cluster.markers()[0]
    name, spec = marker["metadata"]["name"], marker["spec"]
    assert name > cluster.volume_of()["metadata"]["name"]
    assert (name, "Retain", {"namespace": "binding.pulse", "name": name}) == (
        spec["storageClassName"],
        spec["persistentVolumeReclaimPolicy"],
        spec["claimRef"],
    )
    assert "finalizers" not in marker["metadata"]
    cluster.run(cluster.answer_pulses)
    await cluster.until(lambda: not cluster.markers())


async def test_each_pulse_has_a_marker_of_its_own(cluster: Cluster) -> None:
    await cluster.start()
    cluster.run(cluster.answer_pulses)
    for name in ("one", "two"):
        cluster.add_claim(name)
        await cluster.until(functools.partial(_is_bound, cluster, name))
    made = [
        r.body["metadata"]["name"]
        for r in cluster.api.requests
        if r.verb == "create" and r.plural == "persistentvolumes" and "labels" in r.body["metadata"]
    ]
    assert (len(made), len(set(made))) == (2, 2)


async def test_many_claims_share_one_pulse(cluster: Cluster) -> None:
    for number in range(50):
        cluster.add_claim(f"data-{number}")
    await cluster.start(head_start=0.3)
    cluster.run(cluster.answer_pulses)
    await cluster.until(lambda: _outcome(cluster, "eager") == 50)
    markers = [r for r in cluster.api.requests if r.verb == "create" and "labels" in r.body.get("metadata", {})]
    assert len(markers) <= 3


async def test_a_binder_with_nothing_else_to_do_is_left_to_it_and_needs_no_pulse(cluster: Cluster) -> None:
    await cluster.start(head_start=0.1)
    cluster.add_claim()
    await cluster.until(cluster.volumes)
    patch = {"spec": {"volumeName": cluster.volume_of()["metadata"]["name"]}}
    cluster.api.patch(objects.CLAIMS, "data", patch, namespace="app")
    await cluster.until(lambda: _outcome(cluster, "binder") == 1)
    assert len([w for w in _writes(cluster) if w[:2] == ("create", "persistentvolumes")]) == 1


async def test_a_binder_that_does_not_answer_gets_the_claims_and_no_claim_is_touched(cluster: Cluster) -> None:
    await cluster.start(pulse_timeout=0.05)
    cluster.add_claim()
    await cluster.until(lambda: _outcome(cluster, "left-to-binder") == 1)
    await cluster.until(lambda: not cluster.markers())
    assert [write for write in _writes(cluster) if write[1] == "persistentvolumeclaims"] == []


async def test_a_busy_binder_gets_time_to_write_its_own_wish_first(cluster: Cluster) -> None:
    time = clock.FakeClock()
    await cluster.start(time)
    for name in ("asked", "silent"):
        cluster.add_claim(name)
    await cluster.until(lambda: len(cluster.volumes()) == 2)
    cluster.ask("asked")
    await asyncio.sleep(0.05)
    time.advance(0)
    await cluster.until(cluster.markers)
    time.advance(2)
    _answer(cluster)
    await cluster.until(lambda: cluster.phase("asked") == "Bound")
    assert "volumeName" not in cluster.claim("silent")["spec"]
    time.advance(0)
    await cluster.until(lambda: any(one["status"]["phase"] == "Pending" for one in cluster.markers()))
    _answer(cluster)
    await cluster.until(lambda: cluster.phase("silent") == "Bound")


def _answer(cluster: Cluster) -> None:
    for marker in cluster.markers():
        cluster.api.patch(
            objects.VOLUMES, marker["metadata"]["name"], {"status": {"phase": "Available"}}, subresource="status"
        )


async def test_a_claim_that_was_bound_while_the_pulse_was_out_is_left_alone(cluster: Cluster) -> None:
    await cluster.start()
    cluster.add_claim()
    await cluster.until(cluster.markers)
    cluster.api.patch(objects.CLAIMS, "data", {"spec": {"volumeName": "other"}}, namespace="app")
    cluster.run(cluster.answer_pulses)
    await cluster.until(lambda: _outcome(cluster, "binder") + _outcome(cluster, "conflict") == 1)
    assert (cluster.claim()["spec"]["volumeName"], cluster.phase()) == ("other", "Pending")


async def test_a_namesake_is_not_bound_to_a_volume_of_the_old_claim(cluster: Cluster) -> None:
    await cluster.start(binding="eager")
    cluster.add_claim()
    await cluster.until(cluster.markers)
    fault = cluster.api.faults.add(
        apiserver.Fault(verb="patch", kind=objects.CLAIMS, status=409, reason="Conflict", message="uid")
    )
    cluster.run(cluster.answer_pulses)
    await cluster.until(lambda: _outcome(cluster, "conflict") == 1)
    assert (fault.hits, cluster.phase()) == (1, "Pending")
    patch = next(r.body for r in cluster.api.requests if (r.verb, r.plural) == ("patch", "persistentvolumeclaims"))
    assert cluster.claim()["metadata"]["uid"] == patch["metadata"]["uid"]


async def test_a_claim_being_deleted_is_not_bound(cluster: Cluster) -> None:
    await cluster.start(head_start=0.1)
    cluster.add_claim(finalizers=["kubernetes.io/pvc-protection"])
    await cluster.until(cluster.volumes)
    cluster.api.delete(objects.CLAIMS, "data", "app")
    await cluster.until(lambda: _outcome(cluster, "binder") == 1)
    assert "volumeName" not in cluster.claim()["spec"]


@pytest.mark.parametrize(
    "right",
    [
        ("patch", "persistentvolumeclaims"),
        ("patch", "persistentvolumeclaims/status"),
        ("patch", "persistentvolumes/status"),
    ],
)
async def test_without_a_right_claims_are_bound_at_the_binders_pace_and_that_is_said_once(
    cluster: Cluster, right: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.api.forbidden = {right}
    await cluster.start(retry_max=3600.0)
    cluster.run(cluster.answer_pulses)
    cluster.add_claim("one")
    await cluster.until(lambda: _outcome(cluster, "left-to-binder") == 1)
    markers = cluster.api.count("create", objects.VOLUMES)
    cluster.add_claim("two")
    await cluster.until(lambda: len(cluster.volumes()) == 2)
    await asyncio.sleep(0.05)
    assert markers + 1 == cluster.api.count("create", objects.VOLUMES)
    said = capsys.readouterr().out
    assert said.count("kube-controller-manager's own pace") == 1
    assert f'cannot patch resource "{right[1]}"' in said


async def test_a_binder_that_does_not_answer_is_said_once(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    await cluster.start(pulse_timeout=0.02)
    cluster.add_claim("one")
    await cluster.until(lambda: _outcome(cluster, "left-to-binder") == 1)
    cluster.add_claim("two")
    await cluster.until(lambda: _outcome(cluster, "left-to-binder") == 2)
    said = capsys.readouterr().out
    assert said.count("kube-controller-manager's own pace") == 1
    assert "the binder did not answer the pulse in time" in said


async def test_when_the_right_is_granted_claims_are_bound_eagerly_again(cluster: Cluster) -> None:
    cluster.api.forbidden = {("patch", "persistentvolumeclaims")}
    await cluster.start(retry_max=0.05)
    cluster.run(cluster.answer_pulses)
    cluster.add_claim("one")
    await cluster.until(lambda: _outcome(cluster, "left-to-binder") == 1)
    cluster.api.forbidden.clear()
    await asyncio.sleep(0.06)
    cluster.add_claim("two")
    await cluster.until(lambda: cluster.phase("two") == "Bound")


async def test_the_plain_way_writes_nothing_that_is_the_binders(cluster: Cluster) -> None:
    await cluster.start(binding="controller")
    cluster.add_claim()
    cluster.ask()
    await cluster.until(lambda: cluster.events("ProvisioningSucceeded"))
    await asyncio.sleep(0.05)
    assert _writes(cluster) == [("create", "persistentvolumes", "")]


async def test_the_markers_of_an_earlier_process_are_cleared_away_at_the_start(cluster: Cluster) -> None:
    await cluster.start()
    cluster.add_claim()
    await cluster.until(cluster.markers)
    old = cluster.markers()[0]["metadata"]["name"]
    cluster.api.faults.add(apiserver.Fault(verb="delete", kind=objects.VOLUMES, status=500))
    await cluster.kill()
    assert cluster.api.get(objects.VOLUMES, old) is not None
    cluster.api.create(
        objects.VOLUMES, {"metadata": {"name": "zz-other", "labels": {names.PULSE_LABEL: "other.example"}}, "spec": {}}
    )
    await cluster.start()
    await cluster.until(lambda: cluster.api.get(objects.VOLUMES, old) is None)
    assert cluster.api.get(objects.VOLUMES, "zz-other") is not None


async def test_a_watcher_that_ends_leaves_no_marker_behind(cluster: Cluster) -> None:
    await cluster.start()
    cluster.add_claim()
    await cluster.until(cluster.markers)
    await cluster.stop()
    assert cluster.markers() == []


async def test_a_claim_declared_lost_whose_volume_exists_is_bound_again_and_counted(cluster: Cluster) -> None:
    await cluster.start()
    cluster.run(cluster.answer_pulses)
    cluster.add_claim()
    await cluster.until(lambda: _outcome(cluster, "eager") == 1)
    cluster.api.patch(objects.CLAIMS, "data", {"status": {"phase": "Lost"}}, namespace="app", subresource="status")
    await cluster.until(lambda: _outcome(cluster, "lost-repaired") == 1)
    assert cluster.phase() == "Bound"


async def test_a_claim_that_has_really_lost_its_volume_stays_lost(cluster: Cluster) -> None:
    await cluster.start()
    cluster.add_claim()
    await cluster.until(cluster.volumes)
    volume = cluster.volume_of()["metadata"]["name"]
    other = cluster.add_claim("other", spec={"volumeName": volume})
    cluster.api.patch(objects.CLAIMS, "other", {"status": {"phase": "Lost"}}, namespace="app", subresource="status")
    await cluster.until(lambda: cluster.api.count("get", objects.VOLUMES))
    await asyncio.sleep(0.05)
    assert other["metadata"]["uid"] == cluster.claim("other")["metadata"]["uid"]
    assert cluster.phase("other") == "Lost"


async def test_an_available_volume_that_fits_wins_over_a_new_one(cluster: Cluster) -> None:
    spec = {
        "storageClassName": "fast",
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "csi": {"driver": "x.example", "volumeHandle": "h"},
    }
    cluster.api.create(objects.VOLUMES, {"metadata": {"name": "free"}, "spec": {**spec, "volumeMode": "Filesystem"}})
    await cluster.start()
    cluster.add_claim()
    await cluster.until(lambda: cluster.pending("waiting-for-binder") == 1)
    assert cluster.csi.called("create_volume") == []
    cluster.ask()
    await cluster.until(lambda: cluster.csi.called("create_volume"))


async def test_a_claim_whose_volume_was_deleted_while_the_pulse_was_out_is_not_bound_to_nothing(
    cluster: Cluster,
) -> None:
    cluster.add_class("keep", reclaimPolicy="Retain")
    await cluster.start()
    cluster.add_claim(class_name="keep")
    await cluster.until(cluster.markers)
    cluster.csi.gate.clear()
    name = cluster.volume_of()["metadata"]["name"]
    cluster.api.delete(objects.VOLUMES, name)
    await cluster.until(lambda: len(cluster.csi.called("create_volume")) > 1)
    cluster.run(cluster.answer_pulses)
    await cluster.until(lambda: _outcome(cluster, "left-to-binder") == 1)
    assert "volumeName" not in cluster.claim()["spec"]
