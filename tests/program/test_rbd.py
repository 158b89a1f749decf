"""The program on Ceph, as its operator meets it: what is wrong with a cluster is said in time, and mended meanwhile."""

import dataclasses
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from grpc import aio

from provisioner.generated import csi_pb2, csi_pb2_grpc
from tests.harness import ceph as ceph_harness
from tests.harness.ceph import ceph
from tests.program.test_program import Running, home, run

__all__ = ["ceph", "home"]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a Ceph cluster of one's own needs root")

_IN_TIME = 15.0
_KEY_OF_NOBODY = "AQAAAAAAAAAAEAAAAAAAAAAAAAAAAAAAAAAAAA=="


@dataclasses.dataclass
class Operator:
    """Writes down where the cluster is."""

    cluster: ceph_harness.CephCluster
    folder: Path

    def write(self, **other: object) -> None:
        """Write the cluster's entry, with something else in it than there should be."""
        known = {"monitors": list(self.cluster.monitors), "user": ceph_harness.USER, "key": self.cluster.key}
        written = self.folder / "clusters.yaml.new"
        written.write_text(json.dumps([{"clusterID": "main", **known, **other}]))
        written.rename(self.folder / "clusters.yaml")

    @property
    def environment(self) -> dict[str, str]:
        return {"PROVISIONER_BACKEND": "rbd", "PROVISIONER_RBD_CLUSTERS": str(self.folder)}


class Controller(Running):
    """One process of `controller` on Ceph, without a Kubernetes cluster."""

    def __init__(self, home: Path, operator: Operator) -> None:
        self._operator = operator
        super().__init__(home)

    def arguments(self, port: int) -> list[str]:
        clusters = f"--rbd-clusters={self._operator.folder}"
        return [
            *("controller", "--backend=rbd", "--watch=none", clusters, f"--csi-socket={self.home}/csi.sock"),
            f"--metrics-address=127.0.0.1:{port}",
        ]


@pytest.fixture
def operator(ceph: ceph_harness.CephCluster, home: Path) -> Operator:
    folder = home / "clusters"
    folder.mkdir()
    return Operator(ceph, folder)


@pytest.fixture
def controller(home: Path, operator: Operator) -> Iterator[Controller]:
    started = Controller(home, operator)
    try:
        yield started
    finally:
        started.end()


def commanded(operator: Operator, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(*arguments, **operator.environment)


def listed(operator: Operator, *arguments: str) -> list[dict[str, Any]]:
    ended = commanded(operator, "volumes", "--output=json", *arguments)
    assert ended.returncode == 0, ended.stderr
    found: list[dict[str, Any]] = json.loads(ended.stdout)["volumes"]
    return found


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({}, "no Ceph cluster is known"),
        ({"key": _KEY_OF_NOBODY}, "cluster main refuses the user that it is given"),
        ({"user": "nobody"}, "cluster main refuses the user that it is given"),
        ({"key": "no key"}, "the key for cluster main is none of Ceph's keys"),
        ({"monitors": ["127.0.0.1:1"]}, "no monitor of cluster main answers"),
        ({"monitor": "10.0.0.1"}, "clusterID 'main' has the unknown key 'monitor'"),
    ],
    ids=["a missing file", "a wrong key", "an unknown user", "a malformed key", "no monitor", "a misspelt file"],
)
def test_what_is_wrong_with_the_clusters_is_said_within_15_s_and_mended_without_a_restart(
    controller: Controller, operator: Operator, wrong: dict[str, object], reason: str
) -> None:
    if wrong:
        operator.write(**wrong)

    began = time.monotonic()
    controller.until("/readyz", reason)
    assert time.monotonic() - began < _IN_TIME
    assert controller.get("/healthz") == "ok\n"
    operator.write()
    controller.until("/readyz", "[+] storage")


async def test_a_deleted_volume_is_listed_in_the_trash_and_restored_with_the_claim_that_it_was_for(
    controller: Controller, operator: Operator
) -> None:
    operator.write()
    controller.until("/readyz", "[+] storage")
    async with aio.insecure_channel(f"unix:{controller.home}/csi.sock") as channel:
        stub = csi_pb2_grpc.ControllerStub(channel)
        volume = await _create(stub, "pvc-1")
        (ready,) = listed(operator, "shop/orders")
        assert ready["where"].rpartition("/")[2] in operator.cluster.rbd("ls", ceph_harness.POOL).split()
        assert listed(operator, ready["where"]) == [ready]

        await stub.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=volume.volume_id))
        assert listed(operator) == []
        (trashed,) = listed(operator, "--trash")
        assert (trashed["id"], trashed["claim"]) == (volume.volume_id, "shop/orders")

        restored = commanded(operator, "restore", volume.volume_id, "--node-name=n")
        persistent, claim = yaml.safe_load_all(restored.stdout)
        assert persistent["spec"]["csi"]["volumeHandle"] == volume.volume_id
        assert persistent["spec"]["csi"]["volumeAttributes"] == dict(volume.volume_context)
        assert persistent["spec"]["claimRef"]["name"] == claim["metadata"]["name"] == "orders"
        assert listed(operator) == [ready]
        await stub.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=volume.volume_id))


def test_a_command_whose_cluster_does_not_answer_ends_with_the_reason(operator: Operator) -> None:
    operator.write(key=_KEY_OF_NOBODY)
    ended = commanded(operator, "volumes")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "cluster main refuses the user that it is given" in ended.stderr
    assert _KEY_OF_NOBODY not in ended.stderr


async def _create(stub: csi_pb2_grpc.ControllerStub, name: str) -> csi_pb2.Volume:
    mode = csi_pb2.VolumeCapability.AccessMode(mode=csi_pb2.VolumeCapability.AccessMode.SINGLE_NODE_WRITER)
    mount = csi_pb2.VolumeCapability.MountVolume(fs_type="ext4")
    parameters = {
        "pool": ceph_harness.POOL,
        "csi.storage.k8s.io/pvc/namespace": "shop",
        "csi.storage.k8s.io/pvc/name": "orders",
    }
    asked = csi_pb2.CreateVolumeRequest(
        name=name,
        volume_capabilities=[csi_pb2.VolumeCapability(mount=mount, access_mode=mode)],
        parameters=parameters,
    )
    made = await stub.CreateVolume(asked)
    return made.volume
