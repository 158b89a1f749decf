"""One process per node, as in `deploy/`: each takes the claims of its node, and all agree without a leader."""

import contextlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence

import pytest

from provisioner.controllers import assign
from tests.cluster import fleet as fleets
from tests.harness import control_plane as harness
from tests.harness import needs, process, program

Json = fleets.Json

_ALL = frozenset(fleets.POOLS)
_LARGE = _ALL - {"small"}
_TOO_LARGE = "100Mi"
_OURS = "system:serviceaccount:provisioner-system:provisioner"
_MAY_SAVE = ("auth", "can-i", "create", "persistentvolumes", f"--as={_OURS}")
_SELECTED = "volume.kubernetes.io/selected-node"


@pytest.fixture(scope="module")
def control_plane() -> Iterator[harness.ControlPlane]:
    """A control plane of these tests' own: nodes without a kubelet are well there, and claims go at a fair pace."""
    needs.require(needs.CONTROL_PLANE)
    flags = ["--node-monitor-grace-period=1h", "--kube-api-qps=500", "--kube-api-burst=1000"]
    with harness.running(controller_manager=flags) as plane, plane.sandbox.network():
        on_large_1 = [{"matchLabelExpressions": [{"key": program.TOPOLOGY_KEY, "values": ["large-1"]}]}]
        late = {"volumeBindingMode": "WaitForFirstConsumer"}
        program.add_class(plane, "fast")
        program.add_class(plane, "late", **late)
        program.add_class(plane, "fast-there", allowedTopologies=on_large_1)
        program.add_class(plane, "late-there", allowedTopologies=on_large_1, **late)
        yield plane


@pytest.fixture(scope="module")
def made(control_plane: harness.ControlPlane) -> fleets.Fleet:
    return fleets.Fleet(control_plane)


@pytest.fixture
def fleet(made: fleets.Fleet, namespace: str) -> Iterator[fleets.Fleet]:
    """All nodes, at work; every volume is deleted afterwards by the process that has it."""
    made.register()
    made.start()
    made.plane.kubectl("wait", "--for=create", "serviceaccount/default", f"-n={namespace}")
    yield made
    made.start()
    made.plane.kubectl("delete", "pod,pvc", "--all", f"-n={namespace}", "--grace-period=0", "--force", "--wait=false")
    process.wait_until(lambda: not made.plane.get("pv")["items"], seconds=fleets.SECONDS, what="the volumes to go")
    assert made.pools() == {}


def _add(fleet: fleets.Fleet, namespace: str, *objects: Json) -> None:
    fleet.plane.kubectl("create", "--filename=-", f"--namespace={namespace}", stdin=fleets.many(objects))


def _selected(fleet: fleets.Fleet, namespace: str, name: str = "data") -> str:
    return str(fleet.claims(namespace)[name]["metadata"]["annotations"].get(_SELECTED, ""))


def _rescheduled(fleet: fleets.Fleet, namespace: str) -> Mapping[str, tuple[str, str]]:
    """The type and the text of the event that tells of each claim that was freed."""
    events = fleet.events(namespace, "Rescheduling")
    return {event["involvedObject"]["name"]: (event["type"], event["message"]) for event in events}


def test_a_volume_is_made_by_the_process_of_the_node_that_the_scheduler_chose(
    fleet: fleets.Fleet, namespace: str
) -> None:
    numbers = range(len(_ALL))
    _add(fleet, namespace, *(fleets.claim(f"data-{number}", "late") for number in numbers))
    _add(fleet, namespace, *(fleets.pod(f"web-{number}", f"data-{number}") for number in numbers))
    where = fleet.until_bound(namespace)

    def running() -> Mapping[str, str]:
        pods = fleet.plane.get("pod", f"-n={namespace}")["items"]
        return {pod["metadata"]["name"].replace("web", "data"): pod["spec"].get("nodeName", "") for pod in pods}

    process.wait_until(lambda: all(running().values()), seconds=fleets.SECONDS, what="the Pods to be scheduled")
    assert set(where.values()) == _ALL
    assert running() == where
    assert fleet.saved() == fleet.pools()
    assert fleet.events(namespace, "ProvisioningFailed") == []


def test_forty_immediate_claims_are_shared_out_each_to_one_volume_on_one_node(
    fleet: fleets.Fleet, namespace: str
) -> None:
    _add(fleet, namespace, *(fleets.claim(f"data-{number}", "fast") for number in range(40)))
    where = fleet.until_bound(namespace)
    share = {name: list(where.values()).count(name) for name in _ALL}
    assert fleet.saved() == fleet.pools()
    assert {name: len(fleet.programs[name].volumes()) for name in _ALL} == share
    assert sum(share.values()) == 40
    assert all(3 * count <= 2 * 40 for count in share.values()), share
    assert fleet.events(namespace, "ProvisioningFailed") == []


def test_a_node_without_room_gives_the_claim_back_to_the_scheduler_which_chooses_another(
    fleet: fleets.Fleet, namespace: str
) -> None:
    fleet.open_only({"small"})
    _add(fleet, namespace, fleets.claim("data", "late", _TOO_LARGE), fleets.pod("web", "data"))
    process.wait_until(
        lambda: "data" in _rescheduled(fleet, namespace), seconds=fleets.SECONDS, what="the claim to be given back"
    )
    assert fleet.pools() == {}
    fleet.open_only({"large-2"})
    assert fleet.until_bound(namespace) == {"data": "large-2"}
    kind, text = _rescheduled(fleet, namespace)["data"]
    assert (kind, "Node small is no longer selected for this claim: it has no room" in text) == ("Normal", True)
    assert fleet.saved() == fleet.pools()


def test_an_immediate_claim_goes_to_the_next_node_where_the_first_has_no_room(
    fleet: fleets.Fleet, namespace: str
) -> None:
    for number in itertools.count():
        name = f"data-{number}"
        _add(fleet, namespace, fleets.claim(name, "fast", _TOO_LARGE))
        order = assign.ranked(fleet.claims(namespace)[name]["metadata"]["uid"], _ALL)
        if order[0] == "small":
            break
    assert fleet.until_bound(namespace)[name] == order[1]
    assert fleet.saved() == fleet.pools()
    assert fleet.programs["small"].volumes() == set()


def test_claims_that_a_node_took_together_and_has_no_room_for_go_to_others(fleet: fleets.Fleet, namespace: str) -> None:
    _add(fleet, namespace, *(fleets.claim(f"data-{number}", "fast", "40Mi") for number in range(12)))
    where = fleet.until_bound(namespace)
    assert list(where.values()).count("small") <= 1
    assert len(where) == len(fleet.pools()) == 12
    assert fleet.saved() == fleet.pools()


def test_claims_whose_node_is_deleted_are_freed_and_land_elsewhere(fleet: fleets.Fleet, namespace: str) -> None:
    fleet.programs["large-1"].component.kill()
    fleet.open_only({"large-1"})
    _add(fleet, namespace, fleets.claim("late", "late"), fleets.pod("web", "late"))
    _add(fleet, namespace, fleets.claim("fast", "fast", node="large-1"))
    process.wait_until(
        lambda: _selected(fleet, namespace, "late") == "large-1", seconds=fleets.SECONDS, what="the scheduler to choose"
    )
    fleet.plane.kubectl("delete", "node", "large-1")
    fleet.open_only(_ALL - {"large-1"})
    where = fleet.until_bound(namespace)
    assert (set(where), set(where.values()) <= _ALL - {"large-1"}) == ({"late", "fast"}, True)
    process.wait_until(
        lambda: set(_rescheduled(fleet, namespace)) == {"late", "fast"}, seconds=fleets.SECONDS, what="the events"
    )
    said = "Node large-1 is no longer selected for this claim: the node does not exist any more; another is chosen"
    assert set(_rescheduled(fleet, namespace).values()) == {("Normal", said)}
    assert fleet.saved() == fleet.pools()


def test_only_the_node_that_has_a_volume_deletes_it_and_others_leave_it_while_that_is_down(
    fleet: fleets.Fleet, namespace: str
) -> None:
    _add(fleet, namespace, *(fleets.claim(f"on-{name}", "fast", node=name) for name in _ALL))
    fleet.until_bound(namespace)
    handles = {name: handle for handle, name in fleet.pools().items()}
    before = fleet.deletions()
    fleet.programs["large-1"].component.kill()
    # The end of the second one's volume shows that the first one's claim has been seen to go.
    for name in ("large-1", "large-2"):
        fleet.plane.kubectl("delete", "pvc", f"on-{name}", f"-n={namespace}")
    process.wait_until(
        lambda: handles["large-2"] not in fleet.saved(), seconds=fleets.SECONDS, what="the volume of large-2 to go"
    )
    assert fleet.saved() == fleet.pools() == {handles[name]: name for name in ("large-1", "small")}
    fleet.start()
    process.wait_until(
        lambda: handles["large-1"] not in fleet.saved(), seconds=fleets.SECONDS, what="the volume of large-1 to go"
    )
    assert fleet.saved() == fleet.pools() == {handles["small"]: "small"}
    in_trash = {(name, holder) for name, one in handles.items() for holder in _ALL if _is_in_trash(fleet, one, holder)}
    assert in_trash == {("large-1", "large-1"), ("large-2", "large-2")}
    assert fleet.events("default", "VolumeFailedDelete") == []
    after = fleet.deletions()
    assert {name: after[name] - before[name] for name in ("large-2", "small")} == {"large-2": 1, "small": 0}


def _is_in_trash(fleet: fleets.Fleet, handle: str, node: str) -> bool:
    return any(name.endswith(handle) for name in fleet.programs[node].trash())


@contextlib.contextmanager
def _unable_to_save(plane: harness.ControlPlane) -> Iterator[None]:
    """Let no process save a PersistentVolume meanwhile: its work stops after CreateVolume."""
    rules = plane.get("clusterrole", "provisioner")["rules"]
    fewer = [
        {**rule, "verbs": [verb for verb in rule["verbs"] if verb != "create"]}
        if rule["resources"] == ["persistentvolumes"]
        else rule
        for rule in rules
    ]
    _set_rules(plane, fewer, "no")
    try:
        yield
    finally:
        _set_rules(plane, rules, "yes")


def _set_rules(plane: harness.ControlPlane, rules: Sequence[Json], may_save: str) -> None:
    patch = json.dumps({"rules": rules})
    plane.kubectl("patch", "clusterrole", "provisioner", "--type=merge", f"--patch={patch}")
    process.wait_until(
        lambda: plane.kubectl(*_MAY_SAVE, check=False).strip() == may_save,
        seconds=fleets.SECONDS,
        what="the rights to change",
    )


def test_a_node_that_is_killed_at_work_finishes_its_claims_after_it_is_started_again(
    fleet: fleets.Fleet, namespace: str
) -> None:
    struck = fleet.programs["large-1"]
    names = [f"data-{number}" for number in range(8)]
    with _unable_to_save(fleet.plane):
        _add(fleet, namespace, *(fleets.claim(name, "fast", node="large-1") for name in names))
        process.wait_until(lambda: len(struck.volumes()) == 8, seconds=fleets.SECONDS, what="the volumes")
        struck.component.kill()
    made = fleet.pools()
    assert fleet.saved() == {}
    _add(fleet, namespace, *(fleets.claim(f"more-{number}", "fast") for number in range(8)))
    fleet.start()
    where = fleet.until_bound(namespace)
    assert {name: where[name] for name in names} == dict.fromkeys(names, "large-1")
    assert fleet.saved() == fleet.pools()
    assert (len(fleet.pools()), made.items() <= fleet.pools().items()) == (16, True)


def test_a_class_that_allows_one_node_is_served_there_alone(fleet: fleets.Fleet, namespace: str) -> None:
    names = [f"fast-{number}" for number in range(4)]
    _add(fleet, namespace, *(fleets.claim(name, "fast-there") for name in names))
    _add(fleet, namespace, fleets.claim("late", "late-there"), fleets.pod("web", "late"))
    assert fleet.until_bound(namespace) == dict.fromkeys([*names, "late"], "large-1")
    assert fleet.saved() == fleet.pools()
