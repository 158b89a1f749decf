"""A claim becomes a volume: the ways in which it may go, and go wrong."""

import asyncio
import base64

import pytest

from provisioner import csiclient, model
from provisioner.controllers import names
from provisioner.kube import objects
from tests.fakes import apiserver, csi_client
from tests.unit.controllers import build, conftest

Cluster = conftest.Cluster
Code = csiclient.Code
Fault = csi_client.Fault
When = csi_client.When


def _requests(cluster: Cluster) -> list[object]:
    return cluster.csi.called("create_volume")


async def test_a_claim_gets_a_volume_a_persistent_volume_and_the_event_that_users_know(cluster: Cluster) -> None:
    await cluster.start(binding="controller")
    cluster.add_claim()
    cluster.ask()
    await cluster.until(lambda: cluster.events("ProvisioningSucceeded"))
    pv = cluster.volume_of()
    assert f"vol-{pv['metadata']['name']}" == pv["spec"]["csi"]["volumeHandle"]
    said = [(event["reason"], event["message"]) for event in cluster.events()]
    assert said == [("ProvisioningSucceeded", f"Successfully provisioned volume {pv['metadata']['name']}")]
    assert cluster.events(type_="Warning") == []
    assert cluster.counted("controller_persistentvolumeclaim_provision_total", **{"class": "fast", "source": ""}) == 1.0


async def test_a_volume_that_is_not_there_at_once_is_said_to_be_on_its_way(cluster: Cluster) -> None:
    cluster.csi.gate.clear()
    await cluster.start()
    cluster.add_claim()
    await cluster.until(lambda: cluster.events("Provisioning", "Normal"))
    assert cluster.events("Provisioning")[0]["message"] == (
        'External provisioner is provisioning volume for claim "app/data"'
    )


async def test_claims_that_were_there_before_the_watcher_are_served_too(cluster: Cluster) -> None:
    for number in range(5):
        cluster.add_claim(f"data-{number}")
    await cluster.start()
    await cluster.until(lambda: len(cluster.volumes()) == 5)
    assert len(_requests(cluster)) == 5


async def test_an_unenforced_size_is_said_once_on_the_claim(cluster: Cluster) -> None:
    cluster.csi.context["enforcement"] = "none"
    await cluster.start()
    cluster.add_claim()
    await cluster.until(lambda: cluster.events("SizeNotEnforced"))
    assert [event["count"] for event in cluster.events("SizeNotEnforced", "Normal")] == [1]


@pytest.mark.parametrize("code", [Code.DEADLINE_EXCEEDED, Code.ABORTED, Code.UNAVAILABLE, Code.CANCELLED])
async def test_a_call_without_an_answer_is_repeated_with_the_same_arguments_whatever_the_class_is_by_then(
    cluster: Cluster, code: csiclient.Code
) -> None:
    cluster.csi.gate.clear()
    cluster.csi.plan("create_volume", Fault(code, When.AFTER), Fault(code, When.AFTER))
    await cluster.start()
    cluster.add_claim()
    await cluster.until(lambda: _requests(cluster))
    cluster.api.delete(objects.CLASSES, "fast")
    cluster.csi.gate.set()
    await cluster.until(cluster.volumes)
    first, *others = _requests(cluster)
    assert [first, first] == others
    assert len(cluster.csi.volumes) == 1


async def test_a_hanging_driver_is_an_ordinary_wait_and_no_warning(cluster: Cluster) -> None:
    cluster.csi.plan("create_volume", Fault(Code.OK, When.HANG), Fault(Code.ABORTED))
    await cluster.start()
    cluster.add_claim()
    await cluster.until(lambda: cluster.events("ProvisioningSucceeded"))
    assert cluster.events(type_="Warning") == []
    assert any("still waiting" in event["message"] for event in cluster.events("Provisioning"))


async def test_a_driver_that_is_never_done_is_warned_of_in_the_end(cluster: Cluster) -> None:
    cluster.csi.plan("create_volume", *[Fault(Code.ABORTED)] * 6)
    await cluster.start()
    cluster.add_claim()
    await cluster.until(lambda: cluster.events("ProvisioningFailed", "Warning"))
    assert "ABORTED" in cluster.events("ProvisioningFailed")[0]["message"]


async def test_a_final_error_is_told_in_the_drivers_words_and_tried_again(cluster: Cluster) -> None:
    cluster.csi.plan("create_volume", Fault(Code.INTERNAL, message="the disk is on fire"))
    await cluster.start()
    cluster.add_claim()
    await cluster.until(cluster.volumes)
    await cluster.until(lambda: cluster.events("ProvisioningFailed", "Warning"))
    assert (
        cluster.events("ProvisioningFailed")[0]["message"]
        == 'failed to provision volume with StorageClass "fast": the disk is on fire (INTERNAL)'
    )
    failed = "controller_persistentvolumeclaim_provision_failed_total"
    assert cluster.counted(failed, **{"class": "fast", "source": ""}) == 1


async def test_a_repeated_error_is_one_event_that_is_counted(cluster: Cluster) -> None:
    cluster.csi.plan("create_volume", *[Fault(Code.INTERNAL)] * 3)
    await cluster.start()
    cluster.add_claim()
    await cluster.until(lambda: [e["count"] for e in cluster.events("ProvisioningFailed")] == [3])


async def test_what_can_never_succeed_is_tried_again_when_the_claim_changes(cluster: Cluster) -> None:
    cluster.csi.plan("create_volume", Fault(Code.INVALID_ARGUMENT))
    await cluster.start(retry_max=3600.0)
    cluster.add_claim()
    await cluster.until(lambda: cluster.pending("infeasible") == 1)
    assert len(_requests(cluster)) == 1
    cluster.api.patch(objects.CLAIMS, "data", {"metadata": {"annotations": {"a": "b"}}}, namespace="app")
    await cluster.until(cluster.volumes)


async def test_what_can_never_succeed_is_tried_again_when_the_class_changes(cluster: Cluster) -> None:
    cluster.add_class("odd", parameters={"csi.storage.k8s.io/nonsense": "x"})
    await cluster.start(retry_max=3600.0)
    cluster.add_claim(class_name="odd")
    await cluster.until(lambda: cluster.events("ProvisioningFailed"))
    assert "csi.storage.k8s.io/nonsense is unknown" in cluster.events("ProvisioningFailed")[0]["message"]
    cluster.api.delete(objects.CLASSES, "odd")
    cluster.add_class("odd")
    await cluster.until(cluster.volumes)
    assert len(_requests(cluster)) == 1


async def test_a_missing_class_is_waited_for_when_the_binder_has_asked_us(cluster: Cluster) -> None:
    await cluster.start()
    cluster.add_claim(class_name="late")
    cluster.ask()
    await cluster.until(lambda: cluster.events("ProvisioningFailed"))
    assert '"late" not found' in cluster.events("ProvisioningFailed")[0]["message"]
    cluster.add_class("late")
    await cluster.until(cluster.volumes)


async def test_a_refused_claim_is_told_why_and_the_driver_is_not_asked(cluster: Cluster) -> None:
    await cluster.start()
    cluster.add_claim(spec={"selector": {"matchLabels": {"a": "b"}}})
    cluster.ask()
    await cluster.until(lambda: cluster.events("ProvisioningFailed", "Warning"))
    assert cluster.events("ProvisioningFailed")[0]["message"].startswith("claim Selector is not supported")
    assert (_requests(cluster), cluster.pending("refused")) == ([], 1)


async def test_a_populators_claim_gets_one_normal_event_and_no_volume(cluster: Cluster) -> None:
    await cluster.start()
    cluster.add_claim(spec={"dataSourceRef": {"apiGroup": "backup.example", "kind": "Backup", "name": "b"}})
    cluster.ask()
    await cluster.until(cluster.events)
    event = cluster.events()[0]
    assert (event["type"], "external populator" in event["message"]) == ("Normal", True)
    assert _requests(cluster) == []


# Secrets.

_WITH_SECRET = {
    "csi.storage.k8s.io/provisioner-secret-name": "${pvc.name}",
    "csi.storage.k8s.io/provisioner-secret-namespace": "storage",
}


def _add_secret(cluster: Cluster, value: str) -> None:
    cluster.api.create(
        objects.SECRETS,
        {
            "metadata": {"name": "data", "namespace": "storage"},
            "data": {"key": base64.b64encode(value.encode()).decode()},
        },
    )


async def test_a_secret_is_read_for_the_call_and_never_listed_or_watched(cluster: Cluster) -> None:
    cluster.add_class("secret", parameters=_WITH_SECRET)
    _add_secret(cluster, "geheim")
    await cluster.start()
    cluster.add_claim(class_name="secret")
    await cluster.until(cluster.volumes)
    assert cluster.csi.secrets == [{"key": "geheim"}]
    assert {"get"} == {r.verb for r in cluster.api.requests if r.plural == "secrets"}
    assert "geheim" not in str([cluster.api.list(kind) for kind in (objects.VOLUMES, objects.EVENTS)])


async def test_a_missing_secret_is_named_and_waited_for(cluster: Cluster) -> None:
    cluster.add_class("secret", parameters=_WITH_SECRET)
    await cluster.start()
    cluster.add_claim(class_name="secret")
    await cluster.until(lambda: cluster.events("ProvisioningFailed"))
    assert "Secret storage/data" in cluster.events("ProvisioningFailed")[0]["message"]
    _add_secret(cluster, "geheim")
    await cluster.until(cluster.volumes)


async def test_a_failure_on_the_way_to_the_driver_does_not_forget_what_is_in_the_background(cluster: Cluster) -> None:
    cluster.add_class("secret", parameters=_WITH_SECRET | {"pool": "old"})
    _add_secret(cluster, "geheim")
    cluster.csi.plan("create_volume", Fault(Code.DEADLINE_EXCEEDED, When.AFTER))
    cluster.csi.gate.clear()
    await cluster.start()
    cluster.add_claim(class_name="secret")
    await cluster.until(lambda: _requests(cluster))
    cluster.api.delete(objects.SECRETS, "data", "storage")
    cluster.api.delete(objects.CLASSES, "secret")
    cluster.add_class("secret", parameters=_WITH_SECRET | {"pool": "new"})
    cluster.csi.gate.set()
    await cluster.until(lambda: cluster.events("ProvisioningFailed"))
    _add_secret(cluster, "geheim")
    await cluster.until(cluster.volumes)
    first, second = _requests(cluster)
    assert first == second


# The claim is deleted meanwhile.


async def test_a_claim_that_is_deleted_while_its_volume_is_made_leaves_nothing_behind(cluster: Cluster) -> None:
    cluster.csi.gate.clear()
    await cluster.start()
    cluster.add_claim()
    await cluster.until(lambda: _requests(cluster))
    cluster.api.delete(objects.CLAIMS, "data", "app")
    await cluster.until(lambda: cluster.pending("provisioning") == 0)
    cluster.csi.gate.set()
    await cluster.until(lambda: cluster.csi.called("delete_volume"))
    await cluster.until(lambda: not cluster.volumes())
    assert cluster.csi.volumes == {}
    created = [r for r in cluster.api.requests if (r.verb, r.plural) == ("create", "persistentvolumes")]
    assert len([r for r in created if r.name or r.body["metadata"]["name"].startswith("pvc-")]) == 1


async def test_a_call_in_the_background_is_repeated_to_its_end_though_the_claim_is_gone(cluster: Cluster) -> None:
    cluster.csi.plan("create_volume", *[Fault(Code.DEADLINE_EXCEEDED, When.AFTER)] * 4)
    await cluster.start(retry_min=0.05)
    cluster.add_claim()
    await cluster.until(lambda: _requests(cluster))
    cluster.api.delete(objects.CLAIMS, "data", "app")
    await cluster.until(lambda: cluster.csi.called("delete_volume"))
    await cluster.until(lambda: not cluster.volumes())
    assert (cluster.csi.volumes, len(_requests(cluster))) == ({}, 5)
    assert cluster.pending("waiting-for-driver") == 0


async def test_a_failed_claim_that_is_deleted_is_not_tried_again(cluster: Cluster) -> None:
    cluster.csi.plan("create_volume", Fault(Code.INTERNAL))
    await cluster.start(retry_min=0.2)
    cluster.add_claim()
    await cluster.until(lambda: _requests(cluster))
    cluster.api.delete(objects.CLAIMS, "data", "app")
    await asyncio.sleep(0.4)
    assert len(_requests(cluster)) == 1


async def test_a_namesake_of_a_deleted_claim_gets_a_volume_of_its_own(cluster: Cluster) -> None:
    cluster.csi.plan("create_volume", Fault(Code.DEADLINE_EXCEEDED, When.AFTER))
    await cluster.start()
    old = cluster.add_claim()["metadata"]["uid"]
    await cluster.until(lambda: _requests(cluster))
    cluster.api.delete(objects.CLAIMS, "data", "app")
    new = cluster.add_claim()["metadata"]["uid"]
    await cluster.until(lambda: [v["metadata"]["name"] for v in cluster.volumes()] == [f"pvc-{new}"])
    await cluster.until(lambda: list(cluster.csi.volumes) == [f"vol-pvc-{new}"])
    assert {f"pvc-{old}", f"pvc-{new}"} == {request.name for request in _requests(cluster)}  # type: ignore[attr-defined]


# The PersistentVolume is saved for as long as it takes.


async def test_a_persistent_volume_is_saved_again_and_again_and_the_driver_asked_once(cluster: Cluster) -> None:
    cluster.api.faults.add(apiserver.Fault(verb="create", kind=objects.VOLUMES, status=500, times=5))
    await cluster.start()
    cluster.add_claim()
    await cluster.until(cluster.volumes)
    assert len(_requests(cluster)) == 1


async def test_a_persistent_volume_whose_save_had_no_answer_is_recognised_as_its_own(cluster: Cluster) -> None:
    cluster.api.faults.add(
        apiserver.Fault(verb="create", kind=objects.VOLUMES, effect=apiserver.Effect.RESET, after=True)
    )
    await cluster.start()
    cluster.add_claim()
    await cluster.until(lambda: cluster.events("ProvisioningSucceeded"))
    assert (len(_requests(cluster)), len(cluster.volumes())) == (1, 1)


async def test_a_strangers_volume_under_our_name_is_never_taken_for_ours(cluster: Cluster) -> None:
    cluster.csi.gate.clear()
    await cluster.start()
    uid = cluster.add_claim()["metadata"]["uid"]
    await cluster.until(lambda: _requests(cluster))
    cluster.api.create(objects.VOLUMES, {"metadata": {"name": f"pvc-{uid}"}, "spec": {"storageClassName": "x"}})
    cluster.csi.gate.set()
    await cluster.until(lambda: cluster.events("ProvisioningFailed"))
    assert "already exists" in cluster.events("ProvisioningFailed")[0]["message"]
    cluster.api.delete(objects.VOLUMES, f"pvc-{uid}")
    await cluster.until(lambda: cluster.volumes() and "csi" in cluster.volumes()[0]["spec"])
    assert len(_requests(cluster)) == 1


async def test_a_volume_that_is_too_small_is_deleted_again_and_said(cluster: Cluster) -> None:
    cluster.csi.shrink = 1
    await cluster.start(retry_min=1.0)
    cluster.add_claim()
    await cluster.until(lambda: cluster.events("ProvisioningFailed"))
    assert (cluster.csi.volumes, cluster.volumes()) == ({}, [])
    cluster.csi.shrink = 0
    await cluster.until(cluster.volumes)


async def test_after_a_kill_between_the_volume_and_its_save_the_same_call_is_made_again(cluster: Cluster) -> None:
    cluster.api.faults.add(apiserver.Fault(verb="create", kind=objects.VOLUMES, effect=apiserver.Effect.HANG))
    await cluster.start()
    cluster.add_claim()
    await cluster.until(lambda: cluster.api.count("create", objects.VOLUMES))
    await cluster.kill()
    assert (len(cluster.csi.volumes), cluster.volumes()) == (1, [])
    cluster.api.faults.clear()
    await cluster.start()
    await cluster.until(cluster.volumes)
    first, second = _requests(cluster)
    assert first == second
    assert len(cluster.csi.volumes) == 1


async def test_a_volume_saved_by_an_earlier_process_is_not_made_again(cluster: Cluster) -> None:
    await cluster.start(binding="controller")
    cluster.add_claim()
    cluster.ask()
    await cluster.until(cluster.volumes)
    await cluster.stop()
    await cluster.start()
    cluster.run(cluster.answer_pulses)
    await cluster.until(lambda: cluster.phase() == "Bound")
    assert len(_requests(cluster)) == 1


# Topology.


async def test_where_a_driver_knows_no_topology_it_is_asked_for_none(cluster: Cluster) -> None:
    cluster.add_node("n1")
    await cluster.start()
    cluster.add_claim(annotations={names.SELECTED_NODE: "n1"})
    await cluster.until(lambda: _requests(cluster))
    assert model.Accessibility() == _requests(cluster)[0].accessibility  # type: ignore[attr-defined]


@pytest.fixture
def zoned(cluster: Cluster) -> Cluster:
    """A driver with topology, two nodes, and a class that waits for the first consumer."""
    cluster.csi = csi_client.FakeClient(name=build.DRIVER, topology=True)
    cluster.add_node("n1")
    cluster.add_node("n2")
    cluster.add_class("late", volumeBindingMode="WaitForFirstConsumer")
    return cluster


async def test_a_claim_waits_for_its_consumer_and_is_made_at_the_selected_node(zoned: Cluster) -> None:
    await zoned.start()
    zoned.add_claim(class_name="late")
    await zoned.until(lambda: zoned.pending("waiting-for-first-consumer") == 1)
    assert (_requests(zoned), zoned.events()) == ([], [])
    zoned.select_node("n2")
    await zoned.until(zoned.volumes)
    terms = zoned.volume_of()["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert terms == [{"matchExpressions": [{"key": build.WHERE, "operator": "In", "values": ["n2"]}]}]


async def test_no_room_at_the_selected_node_frees_the_claim_for_another(zoned: Cluster) -> None:
    zoned.csi.plan("create_volume", Fault(Code.RESOURCE_EXHAUSTED))
    await zoned.start()
    zoned.add_claim(class_name="late", annotations={names.SELECTED_NODE: "n1"})
    await zoned.until(lambda: names.SELECTED_NODE not in zoned.claim()["metadata"].get("annotations", {}))
    await zoned.until(lambda: zoned.events("ProvisioningFailed", "Warning"))
    zoned.select_node("n2")
    await zoned.until(zoned.volumes)


async def test_no_room_frees_no_claim_whose_volume_may_be_in_the_making(zoned: Cluster) -> None:
    zoned.csi.plan("create_volume", Fault(Code.DEADLINE_EXCEEDED), Fault(Code.RESOURCE_EXHAUSTED))
    await zoned.start()
    zoned.add_claim(class_name="late", annotations={names.SELECTED_NODE: "n1"})
    await zoned.until(zoned.volumes)
    assert zoned.claim()["metadata"]["annotations"][names.SELECTED_NODE] == "n1"
    assert len(_requests(zoned)) == 3


async def test_a_claim_that_changed_meanwhile_is_not_freed_from_its_new_node(zoned: Cluster) -> None:
    zoned.csi.gate.clear()
    await zoned.start()
    zoned.add_claim(class_name="late", annotations={names.SELECTED_NODE: "n1"})
    await zoned.until(lambda: _requests(zoned))
    zoned.select_node("n2")
    zoned.csi._faults["create_volume"].clear()
    zoned.csi.gate.set()
    await zoned.until(zoned.volumes)
    assert zoned.claim()["metadata"]["annotations"][names.SELECTED_NODE] == "n2"


async def test_a_claim_is_served_as_soon_as_the_driver_is_registered_on_its_node(cluster: Cluster) -> None:
    cluster.csi = csi_client.FakeClient(name=build.DRIVER, topology=True)
    cluster.add_node("n1", registered=False)
    await cluster.start(retry_min=3600.0, retry_max=3600.0)
    cluster.add_claim(annotations={names.SELECTED_NODE: "n1"})
    await cluster.until(lambda: cluster.events("ProvisioningFailed"))
    assert "not registered on the selected node n1" in cluster.events("ProvisioningFailed")[0]["message"]
    drivers = [{"name": build.DRIVER, "nodeID": "n1", "topologyKeys": [build.WHERE]}]
    cluster.api.patch(objects.CSI_NODES, "n1", {"spec": {"drivers": drivers}})
    await cluster.until(cluster.volumes)


# The end.


async def test_at_the_end_what_is_in_hand_is_finished_and_nothing_begun(cluster: Cluster) -> None:
    cluster.csi.gate.clear()
    await cluster.start(workers=1)
    cluster.add_claim("first")
    await cluster.until(lambda: _requests(cluster))
    cluster.add_claim("second")
    await cluster.until(lambda: cluster.counted("workqueue_depth", name="provision") == 1)
    stopping = asyncio.create_task(cluster.stop())
    await asyncio.sleep(0)
    cluster.csi.gate.set()
    await stopping
    assert (len(_requests(cluster)), len(cluster.volumes())) == (1, 1)


async def test_not_more_than_the_given_number_of_claims_are_worked_on_at_once(cluster: Cluster) -> None:
    cluster.csi.gate.clear()
    await cluster.start(workers=3)
    for number in range(9):
        cluster.add_claim(f"data-{number}")
    await cluster.until(lambda: cluster.counted("workqueue_depth", name="provision") == 6)
    assert len(_requests(cluster)) == 3
    cluster.csi.gate.set()
    await cluster.until(lambda: len(cluster.volumes()) == 9)


async def test_a_claim_that_is_bound_when_its_volume_is_found_saved_is_not_pending_for_ever(cluster: Cluster) -> None:
    lost = cluster.api.faults.add(
        apiserver.Fault(verb="create", kind=objects.VOLUMES, after=True, effect=apiserver.Effect.RESET)
    )
    look = cluster.api.faults.add(apiserver.Fault(verb="get", kind=objects.VOLUMES, effect=apiserver.Effect.HANG))
    await cluster.start(binding="controller")
    uid = cluster.add_claim()["metadata"]["uid"]
    cluster.ask()
    await cluster.until(lambda: lost.hits and look.hits)
    cluster.api.patch(objects.CLAIMS, "data", {"spec": {"volumeName": f"pvc-{uid}"}}, namespace="app")
    await cluster.until(lambda: cluster.pending("provisioning") == 0)
    look.release()
    labels = {"class": "fast", "source": ""}
    await cluster.until(lambda: cluster.counted("controller_persistentvolumeclaim_provision_total", **labels) == 1)
    assert (cluster.pending("binding"), cluster.pending("provisioning")) == (0.0, 0.0)
