"""What happens where RBAC lacks a right: it is said which, nothing is lost, and all goes on when it is granted.

A right that is missing is also the way to stop the program at a chosen step, for as long as a test likes.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import control_plane as harness
from tests.harness import needs, process, program

_DEPLOY = Path(__file__).parents[2] / "deploy" / "base"
_SECONDS = 90
_CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "data", "namespace": "default"},
    "spec": {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "fast",
        "resources": {"requests": {"storage": "1Mi"}},
    },
}


@pytest.fixture(scope="module")
def plane() -> Iterator[harness.ControlPlane]:
    """A control plane whose rights these tests may play with."""
    needs.require(needs.CONTROL_PLANE)
    with harness.running() as made, made.sandbox.network():
        for name in ("namespace.yaml", "rbac.yaml"):
            made.apply((_DEPLOY / name).read_text(), "--namespace=provisioner-system")
        program.register_node(made)
        program.add_class(made, "fast")
        yield made


@pytest.fixture
def ours(plane: harness.ControlPlane) -> Iterator[program.Program]:
    """The program, not started; all rights are back afterwards, and its claim is gone."""
    kubeconfig = plane.kubeconfig_for_service_account("provisioner-system", "provisioner")
    made = program.Program(plane, kubeconfig=kubeconfig)
    (plane.sandbox.folder / "logs" / f"{made.name}.log").unlink(missing_ok=True)
    yield made
    _grant(plane)
    plane.kubectl("delete", "pvc", "data", "--ignore-not-found")
    process.wait_until(lambda: not plane.get("pv")["items"], seconds=_SECONDS, what="the volumes to go")
    made.component.stop()


def _rules(plane: harness.ControlPlane) -> list[Any]:
    rules: list[Any] = plane.get("clusterrole", "provisioner")["rules"]
    return rules


def _grant(plane: harness.ControlPlane) -> None:
    plane.apply((_DEPLOY / "rbac.yaml").read_text(), "--namespace=provisioner-system")


def _deny(plane: harness.ControlPlane, verb: str, resource: str) -> None:
    """Take one verb on one resource away."""
    rules = []
    for rule in _rules(plane):
        if resource not in rule["resources"]:
            rules.append(rule)
            continue
        others = [name for name in rule["resources"] if name != resource]
        verbs = [name for name in rule["verbs"] if name != verb]
        rules += [{**rule, "resources": others}] if others else []
        rules += [{**rule, "resources": [resource], "verbs": verbs}] if verbs else []
    assert rules != _rules(plane)
    patch = json.dumps([{"op": "replace", "path": "/rules", "value": rules}])
    plane.kubectl("patch", "clusterrole", "provisioner", "--type=json", f"--patch={patch}")


def _phase(plane: harness.ControlPlane) -> str:
    return str(plane.get("pvc", "data")["status"]["phase"])


def _until_bound(plane: harness.ControlPlane) -> None:
    process.wait_until(lambda: _phase(plane) == "Bound", seconds=_SECONDS, what="the claim to be bound")


def _says(ours: program.Program, verb: str, resource: str) -> bool:
    return f'cannot {verb} resource \\"{resource}\\"' in ours.component.log.read_text()


@pytest.mark.parametrize(
    ("verb", "resource"),
    [
        ("list", "persistentvolumeclaims"),
        ("list", "persistentvolumes"),
        ("list", "storageclasses"),
        ("list", "csinodes"),
        ("list", "nodes"),
        ("create", "persistentvolumes"),
    ],
)
def test_a_claim_waits_for_a_right_that_is_missing_and_is_served_when_it_is_granted(
    plane: harness.ControlPlane, ours: program.Program, verb: str, resource: str
) -> None:
    _deny(plane, verb, resource)
    ours.start(ready=False)
    plane.apply(json.dumps(_CLAIM))
    process.wait_until(lambda: _says(ours, verb, resource), seconds=_SECONDS, what="the log to say what is missing")
    assert _phase(plane) == "Pending"
    _grant(plane)
    _until_bound(plane)
    assert len(ours.volumes()) == 1


def test_without_the_right_to_watch_nothing_is_noticed_until_it_is_granted(
    plane: harness.ControlPlane, ours: program.Program
) -> None:
    _deny(plane, "watch", "persistentvolumeclaims")
    ours.start(ready=False)
    process.wait_until(
        lambda: _says(ours, "watch", "persistentvolumeclaims"), seconds=_SECONDS, what="the log to say what is missing"
    )
    plane.apply(json.dumps(_CLAIM))
    _grant(plane)
    _until_bound(plane)


@pytest.mark.parametrize(
    ("verb", "resource"),
    [
        ("patch", "persistentvolumeclaims"),
        ("patch", "persistentvolumeclaims/status"),
        ("patch", "persistentvolumes/status"),
        ("create", "events"),
    ],
)
def test_without_some_rights_claims_are_bound_all_the_same(
    plane: harness.ControlPlane, ours: program.Program, verb: str, resource: str
) -> None:
    _deny(plane, verb, resource)
    # The binder alone would win every race, were it not held up.
    plane.sandbox.components["kube-controller-manager"].stop()
    ours.start()
    plane.apply(json.dumps(_CLAIM))
    process.wait_until(ours.volumes, seconds=_SECONDS, what="the volume")
    plane.start_controller_manager()
    _until_bound(plane)
    assert [event for event in plane.get("events")["items"] if event["reason"] == "ClaimLost"] == []


@pytest.mark.parametrize(
    ("verb", "resource"),
    [("get", "persistentvolumeclaims"), ("get", "persistentvolumes"), ("delete", "persistentvolumes")],
)
def test_a_volume_waits_for_the_right_to_delete_it_and_its_user_is_told(
    plane: harness.ControlPlane, ours: program.Program, verb: str, resource: str
) -> None:
    ours.start()
    plane.apply(json.dumps(_CLAIM))
    _until_bound(plane)
    _deny(plane, verb, resource)
    plane.kubectl("delete", "pvc", "data")

    def told() -> list[str]:
        events = plane.get("events", "--namespace=default")["items"]
        return [event["message"] for event in events if event["reason"] == "VolumeFailedDelete"]

    process.wait_until(
        lambda: any(f'cannot {verb} resource "{resource}"' in text for text in told()),
        seconds=_SECONDS,
        what="the event to say what is missing",
    )
    _grant(plane)
    process.wait_until(lambda: not plane.get("pv")["items"], seconds=_SECONDS, what="the volume to go")


def test_a_kill_between_the_volume_and_its_save_leaves_one_volume_and_one_claim_that_has_it(
    plane: harness.ControlPlane, ours: program.Program
) -> None:
    _deny(plane, "create", "persistentvolumes")
    ours.start()
    plane.apply(json.dumps(_CLAIM))
    process.wait_until(
        lambda: _says(ours, "create", "persistentvolumes"), seconds=_SECONDS, what="the save to be refused"
    )
    made = ours.volumes()
    ours.component.kill()
    _grant(plane)
    ours.start()
    _until_bound(plane)
    handles = {one["spec"]["csi"]["volumeHandle"] for one in plane.get("pv")["items"] if "claimRef" in one["spec"]}
    assert (len(made), ours.volumes()) == (1, made)
    assert made <= handles
