"""What happens where RBAC lacks a right: it is said which, nothing is lost, and all goes on when it is granted.

Each right of `deploy/` is missing in some test here, and the process misses it: so each is needed, and one that is
granted beyond those fails `test_no_right_is_granted_that_no_test_misses`. A right that is missing is also the way to
stop the program at a chosen step, for as long as a test likes.
"""

import json
import signal
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
import yaml

from tests.harness import control_plane as harness
from tests.harness import image_build, needs, process, program

_SECONDS = 90
_SHARED_DRIVER = "shared.directory.csi.provisioner"

_TO_SERVE = [
    ("list", "persistentvolumeclaims"),
    ("list", "persistentvolumes"),
    ("list", "storageclasses"),
    ("list", "csinodes"),
    ("patch", "persistentvolumeclaims"),
    ("create", "persistentvolumes"),
]
_TO_FOLLOW = [
    ("watch", "persistentvolumeclaims"),
    ("watch", "persistentvolumes"),
    ("watch", "storageclasses"),
    ("watch", "csinodes"),
]
_TO_DELETE = [("get", "persistentvolumeclaims"), ("get", "persistentvolumes"), ("delete", "persistentvolumes")]
_TO_LET_GO = [("patch", "persistentvolumes")]
_TO_RELEASE = [("patch", "persistentvolumes/status")]
_TO_TELL = [("create", "events"), ("get", "events"), ("patch", "events")]
_TO_FREE = [("get", "nodes")]
_TO_TAKE_TURNS = [("list", "nodes")]
_TO_BIND = [("patch", "persistentvolumeclaims/status")]

_NEEDED = {
    "node": [
        *(*_TO_SERVE, *_TO_FOLLOW, *_TO_DELETE, *_TO_LET_GO),
        *(*_TO_RELEASE, *_TO_TELL, *_TO_FREE, *_TO_TAKE_TURNS),
    ],
    "controller": _TO_BIND,
}


@pytest.fixture(scope="module")
def plane() -> Iterator[harness.ControlPlane]:
    """A control plane whose rights these tests may play with."""
    needs.require(needs.CONTROL_PLANE)
    with harness.running() as made, made.sandbox.network():
        here = [{"matchLabelExpressions": [{"key": program.TOPOLOGY_KEY, "values": [program.NODE]}]}]
        program.register_node(made)
        program.add_class(made, "fast")
        program.add_class(made, "late", volumeBindingMode="WaitForFirstConsumer")
        program.add_class(made, "here", allowedTopologies=here)
        program.add_class(made, "shared", provisioner=_SHARED_DRIVER)
        yield made


@pytest.fixture
def ours(plane: harness.ControlPlane) -> Iterator[program.Program]:
    """A node's process, not started; all rights are back afterwards, and its claim is gone."""
    yield from _one(plane, "node")


@pytest.fixture
def controller(plane: harness.ControlPlane) -> Iterator[program.Program]:
    """Likewise the process that makes the volumes of shared pools."""
    yield from _one(plane, "controller")


def _one(plane: harness.ControlPlane, role: str) -> Iterator[program.Program]:
    pool = plane.sandbox.folder / f"pool-of-{role}"
    made = program.Program(plane, name=f"our-{role}", kubeconfig=program.rights(plane, role), role=role, pool=pool)
    (plane.sandbox.folder / "logs" / f"{made.name}.log").unlink(missing_ok=True)
    yield made
    program.grant(plane, role)
    plane.kubectl("delete", "pvc", "--all")
    process.wait_until(lambda: not plane.get("pv")["items"], seconds=_SECONDS, what="the volumes to go")
    made.component.stop()
    made.empty_pool()


def _granted(manifest: str) -> set[tuple[str, str]]:
    """The rights that a manifest of `deploy/` gives."""
    objects = yaml.safe_load_all((image_build.ROOT / "deploy" / manifest).read_text())
    return {
        (verb, resource)
        for one in objects
        for rule in one.get("rules", ())
        for verb in rule["verbs"]
        for resource in rule["resources"]
    }


def _deny(plane: harness.ControlPlane, verb: str, resource: str, role: str = "node") -> None:
    """Take one verb on one resource away from a process of this role, and wait until it has lost it."""
    base, *own = (_granted(name) for name in program.MANIFESTS[role])
    cluster_role = {"node": "provisioner-per-node", "controller": "provisioner-whole-cluster"}[role]
    name = "provisioner" if (verb, resource) in base else cluster_role
    before = plane.get("clusterrole", name)["rules"]
    rules = [less for rule in before for less in _without(rule, verb, resource)]
    assert (rules != before, (verb, resource) in base.union(*own)) == (True, True)
    patch = json.dumps([{"op": "replace", "path": "/rules", "value": rules}])
    plane.kubectl("patch", "clusterrole", name, "--type=json", f"--patch={patch}")
    whole, _, part = resource.partition("/")
    asked = ["auth", "can-i", verb, whole, f"--as=system:serviceaccount:{program.SYSTEM}:{program.ACCOUNTS[role]}"]
    asked += [f"--subresource={part}"] if part else []
    process.wait_until(
        lambda: plane.kubectl(*asked, check=False).strip() == "no", seconds=_SECONDS, what="the right to be gone"
    )


def _without(rule: Mapping[str, Any], verb: str, resource: str) -> Iterator[Mapping[str, Any]]:
    """What is left of a rule."""
    if resource not in rule["resources"]:
        yield rule
        return
    if others := [name for name in rule["resources"] if name != resource]:
        yield {**rule, "resources": others}
    if verbs := [name for name in rule["verbs"] if name != verb]:
        yield {**rule, "resources": [resource], "verbs": verbs}


def _claim(
    plane: harness.ControlPlane,
    class_name: str = "fast",
    mode: str = "ReadWriteOnce",
    *,
    node: str = "",
    names: Sequence[str] = ("data",),
) -> None:
    """Make claims; `node`: the one that is selected for them."""
    annotations = {"volume.kubernetes.io/selected-node": node} if node else {}
    items = [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": "default", "annotations": annotations},
            "spec": {
                "accessModes": [mode],
                "storageClassName": class_name,
                "resources": {"requests": {"storage": "1Mi"}},
            },
        }
        for name in names
    ]
    plane.kubectl("create", "--filename=-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))


def _phase(plane: harness.ControlPlane) -> str:
    return str(plane.get("pvc", "data")["status"]["phase"])


def _until_bound(plane: harness.ControlPlane) -> None:
    process.wait_until(lambda: _phase(plane) == "Bound", seconds=_SECONDS, what="the claim to be bound")


def _until_gone(plane: harness.ControlPlane) -> None:
    process.wait_until(lambda: not plane.get("pv")["items"], seconds=_SECONDS, what="the volume to go")


def _until_said(ours: program.Program, verb: str, resource: str) -> None:
    said = f'cannot {verb} resource \\"{resource}\\"'
    process.wait_until(
        lambda: said in ours.component.log.read_text(), seconds=_SECONDS, what="the log to say what is missing"
    )


def _until_told(plane: harness.ControlPlane, verb: str, resource: str) -> None:
    """Wait until an event on the volume says what is missing."""

    def told() -> list[str]:
        events = plane.get("events", "--namespace=default")["items"]
        return [event["message"] for event in events if event["reason"] == "VolumeFailedDelete"]

    process.wait_until(
        lambda: any(f'cannot {verb} resource "{resource}"' in text for text in told()),
        seconds=_SECONDS,
        what="the event to say what is missing",
    )


@pytest.mark.parametrize("role", ["node", "controller"])
def test_no_right_is_granted_that_no_test_misses(role: str) -> None:
    base, *own = (_granted(name) for name in program.MANIFESTS[role])
    shared_by_all = base if role == "node" else set()
    assert set(_NEEDED[role]) == shared_by_all.union(*own)


@pytest.mark.parametrize(("verb", "resource"), _TO_SERVE)
def test_a_claim_waits_for_a_right_that_is_missing_and_is_served_when_it_is_granted(
    plane: harness.ControlPlane, ours: program.Program, verb: str, resource: str
) -> None:
    _deny(plane, verb, resource)
    ours.start(ready=False)
    _claim(plane)
    _until_said(ours, verb, resource)
    assert _phase(plane) == "Pending"
    program.grant(plane, "node")
    _until_bound(plane)
    assert len(ours.volumes()) == 1


@pytest.mark.parametrize(("verb", "resource"), _TO_FOLLOW)
def test_without_the_right_to_watch_the_program_is_not_ready_and_serves_claims_when_it_is_granted(
    plane: harness.ControlPlane, ours: program.Program, verb: str, resource: str
) -> None:
    _deny(plane, verb, resource)
    ours.start(ready=False)
    process.wait_until(
        lambda: f'cannot {verb} resource "{resource}"' in ours.fetch("/readyz")[1],
        seconds=_SECONDS,
        what="/readyz to say what is missing",
    )
    program.grant(plane, "node")
    _claim(plane)
    _until_bound(plane)


@pytest.mark.parametrize(("verb", "resource"), _TO_TAKE_TURNS)
def test_a_class_that_allows_some_nodes_waits_for_the_right_to_know_which_they_are(
    plane: harness.ControlPlane, ours: program.Program, verb: str, resource: str
) -> None:
    _deny(plane, verb, resource)
    ours.start()
    _claim(plane, "here")
    _until_said(ours, verb, resource)
    assert (_phase(plane), ours.volumes()) == ("Pending", set())
    program.grant(plane, "node")
    _until_bound(plane)


@pytest.mark.parametrize(("verb", "resource"), _TO_FREE)
def test_a_claim_of_a_node_that_is_gone_waits_for_the_right_to_make_sure_of_it(
    plane: harness.ControlPlane, ours: program.Program, verb: str, resource: str
) -> None:
    _deny(plane, verb, resource)
    ours.start()
    _claim(plane, "late", node="nowhere")
    selected = "volume.kubernetes.io/selected-node"
    _until_said(ours, verb, resource)
    assert plane.get("pvc", "data")["metadata"]["annotations"][selected] == "nowhere"
    program.grant(plane, "node")
    process.wait_until(
        lambda: selected not in plane.get("pvc", "data")["metadata"].get("annotations", {}),
        seconds=_SECONDS,
        what="the claim to be freed",
    )


@pytest.mark.parametrize(("verb", "resource"), _TO_DELETE)
def test_a_volume_waits_for_the_right_to_delete_it_and_its_user_is_told(
    plane: harness.ControlPlane, ours: program.Program, verb: str, resource: str
) -> None:
    ours.start()
    _claim(plane)
    _until_bound(plane)
    _deny(plane, verb, resource)
    plane.kubectl("delete", "pvc", "data")
    _until_told(plane, verb, resource)
    program.grant(plane, "node")
    _until_gone(plane)


@pytest.mark.parametrize(("verb", "resource"), _TO_LET_GO)
def test_a_kept_volume_that_somebody_deletes_waits_for_the_right_to_take_our_finalizer_off(
    plane: harness.ControlPlane, ours: program.Program, verb: str, resource: str
) -> None:
    ours.start()
    _claim(plane)
    _until_bound(plane)
    volume = plane.get("pvc", "data")["spec"]["volumeName"]
    plane.kubectl("patch", "pv", volume, '--patch={"spec":{"persistentVolumeReclaimPolicy":"Retain"}}')
    _deny(plane, verb, resource)
    plane.kubectl("delete", "pvc", "data")
    plane.kubectl("delete", "pv", volume, "--wait=false")
    _until_told(plane, verb, resource)
    program.grant(plane, "node")
    _until_gone(plane)
    assert len(ours.volumes()) == 1


@pytest.mark.parametrize(("verb", "resource"), _TO_RELEASE)
def test_without_the_right_to_release_a_volume_it_is_deleted_all_the_same(
    plane: harness.ControlPlane, ours: program.Program, verb: str, resource: str
) -> None:
    ours.start()
    _claim(plane)
    _until_bound(plane)
    _deny(plane, verb, resource)
    # The binder would be first to release the volume now and then.
    binder = plane.sandbox.components["kube-controller-manager"]
    binder.signal(signal.SIGSTOP)
    try:
        plane.kubectl("delete", "pvc", "data", "--wait=false")
        plane.kubectl("patch", "pvc", "data", "--type=merge", '--patch={"metadata":{"finalizers":null}}')
        _until_said(ours, verb, resource)
    finally:
        binder.signal(signal.SIGCONT)
    _until_gone(plane)
    assert ours.volumes() == set()


@pytest.mark.parametrize(("verb", "resource"), _TO_TELL)
def test_without_a_right_to_tell_the_log_says_so_and_it_is_told_when_it_is_granted(
    plane: harness.ControlPlane, ours: program.Program, verb: str, resource: str
) -> None:
    every_second = "--retry-interval-max=1s"
    plane.kubectl("delete", "events", "--all")
    ours.start(every_second)
    _claim(plane, mode="ReadWriteMany")
    process.wait_until(lambda: _failures(plane), seconds=_SECONDS, what="the first event")
    ours.component.stop()
    _deny(plane, verb, resource)
    if verb == "create":
        plane.kubectl("delete", "events", "--all")
    ours.start(every_second)
    _until_said(ours, verb, resource)
    counted = _failures(plane)
    program.grant(plane, "node")
    process.wait_until(lambda: _failures(plane) > counted, seconds=_SECONDS, what="the event to be told again")


def _failures(plane: harness.ControlPlane) -> int:
    """How often an event has told of the claim's failure."""
    events = plane.get("events", "--namespace=default")["items"]
    return sum(event["count"] for event in events if event["reason"] == "ProvisioningFailed")


@pytest.mark.parametrize(("verb", "resource"), _TO_BIND)
def test_without_the_right_to_bind_claims_are_bound_all_the_same(
    plane: harness.ControlPlane, controller: program.Program, verb: str, resource: str
) -> None:
    _deny(plane, verb, resource, "controller")
    controller.start("--shared-pools", f"--driver-name={_SHARED_DRIVER}")
    # So many that the binder alone would be slow, and is helped.
    names = [f"data-{number}" for number in range(60)]
    _claim(plane, "shared", "ReadWriteMany", names=names)
    _until_said(controller, verb, resource)
    process.wait_until(
        lambda: {claim["status"]["phase"] for claim in plane.get("pvc")["items"]} == {"Bound"},
        seconds=_SECONDS,
        what="the claims to be bound",
    )
    assert len(controller.volumes()) == len(names)
    assert [event for event in plane.get("events")["items"] if event["reason"] == "ClaimLost"] == []


def test_a_kill_between_the_volume_and_its_save_leaves_one_volume_and_one_claim_that_has_it(
    plane: harness.ControlPlane, ours: program.Program
) -> None:
    _deny(plane, "create", "persistentvolumes")
    ours.start()
    _claim(plane)
    _until_said(ours, "create", "persistentvolumes")
    made = ours.volumes()
    ours.component.kill()
    program.grant(plane, "node")
    ours.start()
    _until_bound(plane)
    handles = {one["spec"]["csi"]["volumeHandle"] for one in plane.get("pv")["items"] if "claimRef" in one["spec"]}
    assert (len(made), ours.volumes()) == (1, made)
    assert made <= handles
