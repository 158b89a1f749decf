"""Per-node mode, and what becomes of claims whose node is gone."""

import asyncio
from typing import Any

import pytest

from provisioner import csiclient, errors, model
from provisioner.controllers import assign, names, reschedule
from provisioner.kube import errors as kube_errors
from provisioner.kube import objects
from tests.fakes import apiserver, clock, csi_client
from tests.unit.controllers import build, conftest

Cluster = conftest.Cluster
Fault = csi_client.Fault
NODES = ("n1", "n2", "n3")


def _driver(node: str) -> csi_client.FakeClient:
    return csi_client.FakeClient(name=build.DRIVER, topology=True, place=build.place(node))


def _selected(cluster: Cluster, name: str = "data") -> str:
    return str(cluster.claim(name)["metadata"].get("annotations", {}).get(names.SELECTED_NODE, ""))


@pytest.fixture
async def nodes(cluster: Cluster) -> list[Cluster]:
    """One process for each of three nodes, on one API server; not started."""
    cluster.add_class("late", volumeBindingMode="WaitForFirstConsumer")
    for node in NODES:
        cluster.add_node(node)
    return [Cluster(cluster.api, _driver(node), cluster.kube) for node in NODES]


async def _start(nodes: list[Cluster], **settings: Any) -> None:
    for node, name in zip(nodes, NODES, strict=True):
        await node.start(node_name=name, **settings)


def _name(request: object) -> str:
    assert isinstance(request, model.VolumeRequest)
    return request.name


async def _stop(nodes: list[Cluster]) -> None:
    for node in nodes:
        await node.stop()


def test_all_nodes_rank_themselves_in_the_same_order_for_one_claim_and_differently_for_another() -> None:
    orders = {tuple(assign.ranked(f"uid-{number}", NODES)) for number in range(50)}
    assert assign.ranked("uid", NODES) == assign.ranked("uid", reversed(NODES))
    assert {frozenset(NODES)} == {frozenset(order) for order in orders}
    assert len(orders) == 6


async def test_each_node_makes_the_volumes_of_the_claims_scheduled_to_it_without_waiting(
    cluster: Cluster, nodes: list[Cluster]
) -> None:
    await _start(nodes)
    for node in NODES:
        cluster.add_claim(node, class_name="late", annotations={names.SELECTED_NODE: node})
    await cluster.until(lambda: len(cluster.volumes()) == 3)
    made = {
        node: [_name(request) for request in one.csi.called("create_volume")]
        for node, one in zip(NODES, nodes, strict=True)
    }
    assert {node: [f"pvc-{cluster.claim(node)['metadata']['uid']}"] for node in NODES} == made
    await _stop(nodes)


async def test_a_node_does_not_bind(cluster: Cluster, nodes: list[Cluster]) -> None:
    await _start(nodes, binding="eager")
    cluster.add_claim(class_name="late", annotations={names.SELECTED_NODE: "n1"})
    await cluster.until(lambda: cluster.events("ProvisioningSucceeded"))
    await asyncio.sleep(0.05)
    assert (cluster.markers(), cluster.phase(), cluster.api.count("patch", objects.CLAIMS)) == ([], "Pending", 0)
    await _stop(nodes)


async def test_an_immediate_claim_goes_to_one_node_and_gets_one_volume(cluster: Cluster, nodes: list[Cluster]) -> None:
    await _start(nodes)
    for number in range(12):
        cluster.add_claim(f"data-{number}", annotations=build.asked())
    await cluster.until(lambda: len(cluster.volumes()) == 12)
    assert sum(len(one.csi.called("create_volume")) for one in nodes) == 12
    for number in range(12):
        first = assign.ranked(cluster.claim(f"data-{number}")["metadata"]["uid"], NODES)[0]
        assert first == _selected(cluster, f"data-{number}")
    await _stop(nodes)


async def test_the_next_node_takes_a_claim_that_the_first_does_not(cluster: Cluster, nodes: list[Cluster]) -> None:
    uid = cluster.add_claim(annotations=build.asked())["metadata"]["uid"]
    order = assign.ranked(uid, NODES)
    alive = [one for one, name in zip(nodes, NODES, strict=True) if name != order[0]]
    for one, name in zip(nodes, NODES, strict=True):
        if name != order[0]:
            await one.start(node_name=name)
    await cluster.until(cluster.volumes)
    assert order[1] == _selected(cluster)
    await _stop(alive)


async def test_a_node_without_room_lets_the_next_one_take_the_claim(cluster: Cluster, nodes: list[Cluster]) -> None:
    uid = cluster.add_claim(size="1Gi", annotations=build.asked())["metadata"]["uid"]
    order = assign.ranked(uid, NODES)
    nodes[NODES.index(order[0])].csi.room = model.Available(total=model.GIB, largest=model.GIB - 1)
    await _start(nodes)
    await cluster.until(cluster.volumes)
    assert order[1] == _selected(cluster)
    await _stop(nodes)


async def test_a_node_that_has_just_run_out_of_room_does_not_take_the_claim_again(
    cluster: Cluster, nodes: list[Cluster]
) -> None:
    uid = cluster.add_claim(annotations=build.asked())["metadata"]["uid"]
    order = assign.ranked(uid, NODES)
    nodes[NODES.index(order[0])].csi.plan("create_volume", Fault(csiclient.Code.RESOURCE_EXHAUSTED))
    await _start(nodes)
    await cluster.until(cluster.volumes)
    assert order[1] == _selected(cluster)
    await _stop(nodes)


async def test_only_a_node_that_the_class_allows_takes_a_claim(cluster: Cluster, nodes: list[Cluster]) -> None:
    allowed = [{"matchLabelExpressions": [{"key": build.WHERE, "values": ["n2"]}]}]
    cluster.add_class("there", allowedTopologies=allowed)
    await _start(nodes)
    for number in range(6):
        cluster.add_claim(f"data-{number}", class_name="there", annotations=build.asked())
    await cluster.until(lambda: len(cluster.volumes()) == 6)
    assert {"n2"} == {_selected(cluster, f"data-{number}") for number in range(6)}
    await _stop(nodes)


async def test_nodes_that_the_class_leaves_out_have_no_turn_to_wait_for(cluster: Cluster, nodes: list[Cluster]) -> None:
    for node in NODES:
        allowed = [{"matchLabelExpressions": [{"key": build.WHERE, "values": [node, "elsewhere"]}]}]
        cluster.add_class(f"on-{node}", allowedTopologies=allowed)
        cluster.add_claim(node, class_name=f"on-{node}", annotations=build.asked())
    await _start(nodes, assign_step=3600.0)
    await cluster.until(lambda: len(cluster.volumes()) == 3)
    assert {node: node for node in NODES} == {node: _selected(cluster, node) for node in NODES}
    await _stop(nodes)


async def test_the_labels_of_nodes_are_read_once_for_many_claims(cluster: Cluster, nodes: list[Cluster]) -> None:
    either = [{"matchLabelExpressions": [{"key": build.WHERE, "values": [node]}]} for node in ("n1", "n2")]
    cluster.add_class("there", allowedTopologies=either)
    for number in range(6):
        cluster.add_claim(f"data-{number}", class_name="there", annotations=build.asked())
    await _start(nodes, assign_step=3600.0)
    await cluster.until(lambda: len(cluster.volumes()) == 6)
    # One for each of the two terms, by each of the two nodes that may take claims.
    assert cluster.api.count("list", objects.NODES) == 4
    await _stop(nodes)


async def test_per_node_mode_needs_a_driver_that_says_where_it_stands(cluster: Cluster) -> None:
    cluster.csi.place = None
    with pytest.raises(errors.BackendUnavailableError, match="does not say where its node stands"):
        await cluster.start(node_name="n1")
    cluster.tasks.clear()


async def test_a_claim_is_freed_or_taken_only_in_the_state_in_which_it_was_seen(cluster: Cluster) -> None:
    cluster.add_claim()
    seen = await cluster.kube.get(objects.CLAIMS, "data", "app")
    cluster.select_node("n2")
    for attempt in (reschedule.free(cluster.kube, seen), reschedule.select(cluster.kube, seen, "n1")):
        with pytest.raises(kube_errors.ConflictError):
            await attempt
    assert _selected(cluster) == "n2"


# Nodes that are gone.


async def _advance(cluster: Cluster, time: clock.FakeClock, seconds: float) -> None:
    await asyncio.sleep(0.02)
    time.advance(seconds)
    await asyncio.sleep(0.02)


@pytest.mark.parametrize("node_name", ["", "n1"])
async def test_a_claim_is_freed_from_a_node_that_does_not_exist(cluster: Cluster, node_name: str) -> None:
    cluster.csi = _driver("n1")
    cluster.add_class("late", volumeBindingMode="WaitForFirstConsumer")
    cluster.add_node("n1")
    cluster.add_claim(class_name="late", annotations={names.SELECTED_NODE: "gone"})
    time = clock.FakeClock()
    await cluster.start(time, node_name=node_name)
    await _advance(cluster, time, 6)
    await cluster.until(lambda: not _selected(cluster))
    await cluster.until(lambda: cluster.events("Rescheduling", "Normal"))
    assert "the node does not exist any more" in cluster.events("Rescheduling")[0]["message"]


async def test_a_claim_is_freed_when_its_node_goes_while_it_waits(cluster: Cluster) -> None:
    cluster.csi = _driver("n1")
    for node in ("n1", "n2"):
        cluster.add_node(node)
    cluster.add_class("late", volumeBindingMode="WaitForFirstConsumer")
    cluster.add_claim(class_name="late", annotations={names.SELECTED_NODE: "n2"})
    time = clock.FakeClock()
    await cluster.start(time, node_name="n1")
    cluster.api.delete(objects.NODES, "n2")
    cluster.api.delete(objects.CSI_NODES, "n2")
    await _advance(cluster, time, 6)
    await cluster.until(lambda: not _selected(cluster))


async def test_a_node_that_is_only_being_set_up_keeps_its_claims(cluster: Cluster) -> None:
    cluster.csi = _driver("n1")
    cluster.add_class("late", volumeBindingMode="WaitForFirstConsumer")
    cluster.api.create(objects.NODES, {"metadata": {"name": "new"}})
    cluster.add_claim(class_name="late", annotations={names.SELECTED_NODE: "new"})
    time = clock.FakeClock()
    await cluster.start(time, node_name="n1")
    await _advance(cluster, time, 6)
    await cluster.until(lambda: cluster.api.count("get", objects.NODES) == 1)
    assert _selected(cluster) == "new"


async def test_a_claim_whose_volume_may_be_in_the_making_is_not_freed(cluster: Cluster) -> None:
    cluster.csi = csi_client.FakeClient(name=build.DRIVER, topology=True)
    cluster.csi.gate.clear()
    cluster.add_node("n1")
    cluster.add_class("late", volumeBindingMode="WaitForFirstConsumer")
    cluster.add_claim(class_name="late", annotations={names.SELECTED_NODE: "n1"})
    time = clock.FakeClock()
    await cluster.start(time)
    await cluster.until(lambda: cluster.csi.called("create_volume"))
    cluster.api.delete(objects.NODES, "n1")
    cluster.api.delete(objects.CSI_NODES, "n1")
    await _advance(cluster, time, 6)
    assert (_selected(cluster), cluster.api.count("get", objects.NODES)) == ("n1", 0)


async def test_a_claim_that_another_process_has_freed_is_not_freed_from_its_next_node(cluster: Cluster) -> None:
    cluster.csi = _driver("n1")
    cluster.add_node("n1")
    cluster.add_class("late", volumeBindingMode="WaitForFirstConsumer")
    cluster.add_claim(class_name="late", annotations={names.SELECTED_NODE: "gone"})
    hang = cluster.api.faults.add(apiserver.Fault(verb="get", kind=objects.NODES, status=500))
    time = clock.FakeClock()
    await cluster.start(time)
    cluster.api.faults.add(apiserver.Fault(verb="patch", kind=objects.CLAIMS, status=409, reason="Conflict"))
    cluster.select_node("n1")
    await _advance(cluster, time, 6)
    await cluster.until(cluster.volumes)
    assert (_selected(cluster), hang.hits) == ("n1", 0)


async def test_claims_of_other_drivers_are_not_freed(cluster: Cluster) -> None:
    cluster.api.create(objects.CLASSES, {"metadata": {"name": "theirs"}, "provisioner": "other.example"})
    cluster.add_claim(class_name="theirs", annotations={names.SELECTED_NODE: "gone"})
    time = clock.FakeClock()
    await cluster.start(time)
    await _advance(cluster, time, 60)
    assert (_selected(cluster), cluster.api.count("get", objects.NODES)) == ("gone", 0)
