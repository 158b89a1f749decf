"""Claims on a real control plane, with our program as a process of its own under the rights that `deploy/` gives it."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.bench import load as loads
from tests.harness import control_plane as harness
from tests.harness import process, program

Json = dict[str, Any]

_SECONDS = 60


@pytest.fixture
def ours(control_plane: harness.ControlPlane) -> Iterator[program.Program]:
    """The program, not started; nothing of it is left afterwards."""
    program.register_node(control_plane)
    program.add_class(control_plane, "fast")
    program.add_class(control_plane, "late", volumeBindingMode="WaitForFirstConsumer")
    program.add_class(control_plane, "keep", reclaimPolicy="Retain")
    made = program.Program(control_plane, kubeconfig=program.rights(control_plane))
    yield made
    if made.name in control_plane.sandbox.components:
        made.component.kill()
    for kind in ("pvc --all-namespaces --all", "pv --all", "storageclass fast late keep", f"node {program.NODE}"):
        control_plane.kubectl("delete", *kind.split(), "--wait=false", "--ignore-not-found")
    for volume in control_plane.get("pv")["items"]:
        patch = '--patch={"metadata":{"finalizers":null}}'
        control_plane.kubectl("patch", "pv", volume["metadata"]["name"], "--type=merge", patch, check=False)
    made.empty_pool()


def _claim(name: str, namespace: str, class_name: str = "fast", **spec: Any) -> str:
    body = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": class_name,
            "resources": {"requests": {"storage": "1Mi"}},
            **spec,
        },
    }
    return json.dumps(body)


def _get(plane: harness.ControlPlane, name: str, namespace: str) -> Json:
    found: Json = plane.get("pvc", name, f"--namespace={namespace}")
    return found


def _until_bound(plane: harness.ControlPlane, name: str, namespace: str) -> Json:
    process.wait_until(
        lambda: _get(plane, name, namespace)["status"]["phase"] == "Bound",
        seconds=_SECONDS,
        what=f"{name} to be bound",
    )
    return _get(plane, name, namespace)


def _events(plane: harness.ControlPlane, namespace: str, type_: str = "") -> list[Json]:
    items = plane.get("events", f"--namespace={namespace}")["items"]
    return [event for event in items if type_ in {"", event["type"]}]


def _until_gone(plane: harness.ControlPlane, volume: str) -> None:
    process.wait_until(
        lambda: not plane.kubectl("get", "pv", volume, "--ignore-not-found"), seconds=_SECONDS, what=f"{volume} to go"
    )


def test_an_immediate_claim_is_bound_as_the_binder_leaves_claims_and_stays_so(
    control_plane: harness.ControlPlane, namespace: str, ours: program.Program
) -> None:
    ours.start()
    control_plane.apply(_claim("data", namespace))
    claim = _until_bound(control_plane, "data", namespace)
    volume = control_plane.get("pv", claim["spec"]["volumeName"])
    process.wait_until(
        lambda: control_plane.get("pv", claim["spec"]["volumeName"])["status"]["phase"] == "Bound",
        seconds=_SECONDS,
        what="the volume to be bound",
    )
    assert claim["metadata"]["annotations"]["pv.kubernetes.io/bind-completed"] == "yes"
    assert volume["spec"]["csi"]["volumeHandle"] in ours.volumes()
    assert _events(control_plane, namespace, "Warning") == []
    control_plane.restart_controller_manager()
    assert _until_bound(control_plane, "data", namespace)["spec"] == claim["spec"]


@pytest.mark.parametrize("binding", ["eager", "controller"])
def test_a_pod_that_is_scheduled_gets_its_volume_where_it_runs(
    control_plane: harness.ControlPlane, namespace: str, ours: program.Program, binding: str
) -> None:
    ours.start(f"--binding={binding}")
    _make_schedulable(control_plane)
    control_plane.apply(_claim("data", namespace, "late"))
    control_plane.apply(_pod("web", namespace, "data"))
    claim = _until_bound(control_plane, "data", namespace)
    terms = control_plane.get("pv", claim["spec"]["volumeName"])["spec"]["nodeAffinity"]["required"][
        "nodeSelectorTerms"
    ]
    assert [[one["values"] for one in term["matchExpressions"]] for term in terms] == [[[program.NODE]]]
    process.wait_until(
        lambda: control_plane.get("pod", "web", f"--namespace={namespace}")["spec"].get("nodeName") == program.NODE,
        seconds=_SECONDS,
        what="the Pod to be scheduled",
    )


def test_a_claim_whose_selected_node_never_was_is_freed_for_the_scheduler(
    control_plane: harness.ControlPlane, namespace: str, ours: program.Program
) -> None:
    ours.start()
    control_plane.apply(_claim("data", namespace, "late"))
    key = "volume.kubernetes.io/selected-node"
    control_plane.kubectl("annotate", "pvc", "data", f"--namespace={namespace}", f"{key}=gone")
    process.wait_until(
        lambda: key not in _get(control_plane, "data", namespace)["metadata"]["annotations"],
        seconds=_SECONDS,
        what="the claim to be freed",
    )
    process.wait_until(
        lambda: [e for e in _events(control_plane, namespace, "Normal") if e["reason"] == "Rescheduling"],
        seconds=_SECONDS,
        what="the event",
    )


def test_a_deleted_claim_takes_its_volume_and_its_data_out_of_sight(
    control_plane: harness.ControlPlane, namespace: str, ours: program.Program
) -> None:
    ours.start()
    control_plane.apply(_claim("data", namespace))
    claim = _until_bound(control_plane, "data", namespace)
    control_plane.kubectl("delete", "pvc", "data", f"--namespace={namespace}")
    _until_gone(control_plane, claim["spec"]["volumeName"])
    assert ours.volumes() == set()


def test_a_retained_volume_stays_and_says_where_its_data_is(
    control_plane: harness.ControlPlane, namespace: str, ours: program.Program
) -> None:
    ours.start()
    control_plane.apply(_claim("data", namespace, "keep"))
    claim = _until_bound(control_plane, "data", namespace)
    volume = claim["spec"]["volumeName"]
    handle = control_plane.get("pv", volume)["spec"]["csi"]["volumeHandle"]
    control_plane.kubectl("delete", "pvc", "data", f"--namespace={namespace}")

    def said() -> list[str]:
        events = control_plane.get("events", "--namespace=default", f"--field-selector=involvedObject.name={volume}")
        return [event["message"] for event in events["items"] if event["reason"] == "VolumeRetained"]

    process.wait_until(said, seconds=_SECONDS, what="the event on the volume")
    assert handle in said()[0]
    assert control_plane.get("pv", volume)["status"]["phase"] == "Released"
    assert ours.volumes() == {handle}
    control_plane.kubectl("delete", "pv", volume)
    _until_gone(control_plane, volume)
    assert ours.volumes() == {handle}


def test_a_missing_class_blocks_no_deletion(
    control_plane: harness.ControlPlane, namespace: str, ours: program.Program
) -> None:
    ours.start()
    control_plane.apply(_claim("data", namespace))
    claim = _until_bound(control_plane, "data", namespace)
    control_plane.kubectl("delete", "storageclass", "fast")
    control_plane.kubectl("delete", "pvc", "data", f"--namespace={namespace}")
    _until_gone(control_plane, claim["spec"]["volumeName"])


def test_an_available_volume_that_fits_wins_over_a_new_one(
    control_plane: harness.ControlPlane, namespace: str, ours: program.Program
) -> None:
    ours.start()
    control_plane.apply(_available("free"))
    process.wait_until(
        lambda: control_plane.get("pv", "free")["status"].get("phase") == "Available",
        seconds=_SECONDS,
        what="the volume",
    )
    control_plane.apply(_claim("data", namespace))
    assert _until_bound(control_plane, "data", namespace)["spec"]["volumeName"] == "free"
    assert ours.volumes() == set()


async def test_two_processes_on_one_pool_bind_every_claim_to_one_volume(
    control_plane: harness.ControlPlane, namespace: str, ours: program.Program
) -> None:
    ours.start()
    other = program.Program(control_plane, name="provisioner-2", kubeconfig=program.rights(control_plane))
    try:
        other.start()
        await _bind_many(control_plane, namespace, 100)
        _assert_one_volume_each(control_plane, ours, 100)
    finally:
        other.component.kill()
        other.empty_pool()


async def test_the_api_server_may_be_restarted_in_the_middle(
    control_plane: harness.ControlPlane, namespace: str, ours: program.Program
) -> None:
    async with loads.open_load(control_plane.kubeconfig, namespace=namespace, class_name="fast") as load:
        await load.create_many(200)
        ours.start(ready=False)
        await asyncio.to_thread(process.wait_until, ours.volumes, seconds=_SECONDS, what="the first volume")
        await asyncio.to_thread(control_plane.restart_apiserver, kill=True)
        assert not all(life.bound for life in load.lives.values())
        assert await load.until(lambda life: life.bound, seconds=2 * _SECONDS)
        assert not any(life.lost for life in load.lives.values())
    _assert_one_volume_each(control_plane, ours, 200)


async def _bind_many(plane: harness.ControlPlane, namespace: str, count: int, seconds: float = _SECONDS) -> None:
    async with loads.open_load(plane.kubeconfig, namespace=namespace, class_name="fast") as load:
        await load.create_many(count)
        assert await load.until(lambda life: life.bound, seconds=seconds)
        assert [name for name, life in load.lives.items() if life.lost] == []


def _assert_one_volume_each(plane: harness.ControlPlane, ours: program.Program, count: int) -> None:
    handles = [one["spec"]["csi"]["volumeHandle"] for one in plane.get("pv")["items"] if "csi" in one["spec"]]
    ours_only = [handle for handle in handles if not handle.startswith("zz-pulse-")]
    assert (len(ours_only), set(ours_only)) == (count, ours.volumes())


def _available(name: str) -> str:
    body = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Mi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "fast",
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": "/nowhere"},
        },
    }
    return json.dumps(body)


def _make_schedulable(plane: harness.ControlPlane) -> None:
    ready = {"type": "Ready", "status": "True", "reason": "Test", "message": "", "lastHeartbeatTime": None}
    room = {"cpu": "4", "memory": "8Gi", "pods": "100"}
    status = {"status": {"conditions": [ready], "capacity": room, "allocatable": room}}
    plane.kubectl("patch", "node", program.NODE, "--subresource=status", f"--patch={json.dumps(status)}")
    process.wait_until(
        lambda: not plane.get("node", program.NODE)["spec"].get("taints"),
        seconds=_SECONDS,
        what="the node's taints to go",
    )


def _pod(name: str, namespace: str, claim: str) -> str:
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "containers": [{"name": "web", "image": "none", "volumeMounts": [{"name": "v", "mountPath": "/data"}]}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}],
        },
    }
    return json.dumps(body)
