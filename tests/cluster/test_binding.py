"""Eager binding beside binders of three tempers: none may ever declare a claim Lost, and no claim gets two volumes."""

import asyncio
import collections
import json
from collections.abc import Iterator
from typing import Any

import pytest

from provisioner.kube import client, config, objects
from tests.bench import load as loads
from tests.harness import control_plane as harness
from tests.harness import needs, program

_RAISED = ["--kube-api-qps=500", "--kube-api-burst=1000"]
_CLAIMS = 200
_FOREIGN = 600


@pytest.fixture
def fast_plane() -> Iterator[harness.ControlPlane]:
    """A control plane whose controller manager writes as fast as it can."""
    needs.require(needs.CONTROL_PLANE)
    with harness.running(controller_manager=_RAISED) as plane, plane.sandbox.network():
        yield plane


@pytest.fixture
def slow_plane() -> Iterator[harness.ControlPlane]:
    """A control plane of its own, untouched: its controller manager writes 20 times a second."""
    needs.require(needs.CONTROL_PLANE)
    with harness.running() as plane, plane.sandbox.network():
        yield plane


def _start(plane: harness.ControlPlane, *flags: str) -> program.Program:
    program.register_node(plane)
    program.add_class(plane, "fast")
    ours = program.Program(plane, kubeconfig=program.rights(plane))
    ours.start("--log-level=warning", *flags)
    return ours


async def _bind(plane: harness.ControlPlane, seconds: float) -> loads.Load:
    async with loads.open_load(plane.kubeconfig, namespace="default", class_name="fast") as load:
        await load.create_many(_CLAIMS)
        assert await load.until(lambda life: life.bound, seconds=seconds)
        # What the binder still has in its queues may yet turn a claim.
        await asyncio.sleep(5)
    return load


def _warnings(load: loads.Load) -> list[str]:
    return [f"{event.involved_object.name}: {event.reason}: {event.message}" for event in load.warnings]


def _assert_one_volume_each(plane: harness.ControlPlane, ours: program.Program) -> None:
    claims = plane.get("pvc")["items"]
    taken = {claim["spec"]["volumeName"] for claim in claims}
    phases = collections.Counter(claim["status"]["phase"] for claim in claims)
    volumes: list[Any] = [one for one in plane.get("pv")["items"] if one["spec"].get("storageClassName") == "fast"]
    assert (dict(phases), len(taken)) == ({"Bound": _CLAIMS}, _CLAIMS)
    assert {one["metadata"]["name"] for one in volumes} == taken
    assert {one["spec"]["csi"]["volumeHandle"] for one in volumes} == ours.volumes()


async def test_a_fast_binder_beside_us_ends_with_every_claim_bound_to_one_volume(
    fast_plane: harness.ControlPlane,
) -> None:
    ours = _start(fast_plane)
    load = await _bind(fast_plane, seconds=60)
    assert [name for name, life in load.lives.items() if life.lost] == []
    assert [text for text in _warnings(load) if "ClaimLost" in text] == []
    _assert_one_volume_each(fast_plane, ours)


@pytest.mark.timeout(300)
async def test_an_overloaded_binder_loses_no_claim_and_is_not_disturbed(slow_plane: harness.ControlPlane) -> None:
    ours = _start(slow_plane)
    await _make_foreign_volumes(slow_plane)
    load = await _bind(slow_plane, seconds=180)
    assert [name for name, life in load.lives.items() if life.lost] == []
    assert _warnings(load) == []
    _assert_one_volume_each(slow_plane, ours)


async def test_the_plain_way_is_slow_and_just_as_right(fast_plane: harness.ControlPlane) -> None:
    ours = _start(fast_plane, "--binding=controller")
    load = await _bind(fast_plane, seconds=90)
    assert _warnings(load) == []
    assert ours.metric('provisioner_bind_total{outcome="eager"}') == 0
    _assert_one_volume_each(fast_plane, ours)


async def test_an_untouched_binder_is_outrun_and_no_marker_is_left_when_all_is_done(
    slow_plane: harness.ControlPlane,
) -> None:
    ours = _start(slow_plane)
    # The binder alone takes five writes a claim, and has twenty a second.
    load = await _bind(slow_plane, seconds=_CLAIMS * 5 / 20 / 2)
    assert ours.metric('provisioner_bind_total{outcome="eager"}') > _CLAIMS / 2
    assert [name for name, life in load.lives.items() if life.lost] == []
    _assert_one_volume_each(slow_plane, ours)
    ours.component.stop()
    names = [one["metadata"]["name"] for one in slow_plane.get("pv")["items"]]
    assert [name for name in names if name.startswith("zz-pulse-")] == []


async def _make_foreign_volumes(plane: harness.ControlPlane) -> None:
    """Volumes without claims: the binder's one worker has to mark each of them Available, 20 a second."""
    kube = client.Client(config.load(plane.kubeconfig))
    slots = asyncio.Semaphore(16)

    async def one(number: int) -> None:
        async with slots:
            await kube.create(objects.VOLUMES, json.loads(_FOREIGN_VOLUME % number))

    try:
        await asyncio.gather(*(one(number) for number in range(_FOREIGN)))
    finally:
        await kube.close()


_FOREIGN_VOLUME = """{
  "metadata": {"name": "foreign-%d"},
  "spec": {
    "capacity": {"storage": "1Mi"},
    "accessModes": ["ReadWriteOnce"],
    "storageClassName": "other",
    "persistentVolumeReclaimPolicy": "Retain",
    "hostPath": {"path": "/nowhere"}
  }
}"""
