"""The commands that look into the storage: which volume is whose, and a deleted volume back with its data."""

import asyncio
import datetime
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from provisioner import model
from provisioner.backends.directory import backend
from provisioner.kube import objects
from tests.fakes import apiserver, directory_pools

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the pool of a driver belongs to root: run as root")

_KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: c
clusters: [{name: k, cluster: {server: "%s"}}]
users: [{name: u, user: {}}]
contexts: [{name: c, context: {cluster: k, user: u}}]
"""
_CLAIM = {"csi.storage.k8s.io/pvc/namespace": "shop", "csi.storage.k8s.io/pvc/name": "orders"}


def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    given = {
        "PROVISIONER_POOL": f"fast={home}/fast",
        "PROVISIONER_NODE_NAME": "node-1",
        "PROVISIONER_CSI_SOCKET": f"{home}/csi.sock",
    }
    return subprocess.run(
        [sys.executable, "-m", "provisioner", *arguments],
        capture_output=True,
        check=False,
        text=True,
        timeout=30,
        env={**os.environ, **given},
    )


def listed(home: Path, *arguments: str) -> list[dict[str, Any]]:
    ended = run(home, "volumes", "--output=json", *arguments)
    assert ended.returncode == 0, ended.stderr
    found: list[dict[str, Any]] = json.loads(ended.stdout)["volumes"]
    return found


@pytest.fixture
def pools(tmp_path: Path) -> backend.DirectoryBackend:
    return directory_pools.directory_backend(tmp_path, clock=lambda: datetime.datetime.now(datetime.UTC))


@pytest.fixture
def made(pools: backend.DirectoryBackend) -> model.Volume:
    """A volume of the claim shop/orders that holds a file."""
    volume = pools.create(directory_pools.request("pvc-1", parameters=_CLAIM))
    (pools.locate(volume.id) / "order").write_text("42")
    return volume


def test_a_volume_is_found_by_its_claim_and_a_claim_by_its_volume(tmp_path: Path, made: model.Volume) -> None:
    (by_claim,) = listed(tmp_path, "shop/orders")
    assert by_claim["where"] == f"{tmp_path}/fast/volumes/{made.id}"
    assert by_claim["bytes"] == model.MIB
    assert by_claim["state"] == "ready"
    (by_place,) = listed(tmp_path, by_claim["where"])
    assert (by_place["claim"], by_place["persistentVolume"]) == ("shop/orders", "pvc-1")


def test_people_get_a_table_with_a_line_for_each_volume(tmp_path: Path, made: model.Volume) -> None:
    heads, line = run(tmp_path, "volumes").stdout.splitlines()
    assert heads.split() == ["CLAIM", "PERSISTENTVOLUME", "SIZE", "STATE", "WHERE", "ID"]
    where = f"{tmp_path}/fast/volumes/{made.id}"
    assert line.split() == ["shop/orders", "pvc-1", "1Mi", "ready", where, str(made.id)]


def test_a_volume_whose_record_is_damaged_is_listed_as_unreadable(tmp_path: Path, made: model.Volume) -> None:
    (tmp_path / "fast" / "volumes" / str(made.id) / "meta.json").write_text("{")
    (found,) = listed(tmp_path)
    assert (found["id"], found["state"], found["claim"]) == (str(made.id), "unreadable", "")


def test_a_deleted_volume_is_in_the_trash_until_it_is_restored_with_its_data(
    tmp_path: Path, pools: backend.DirectoryBackend, made: model.Volume
) -> None:
    pools.delete(made.id)
    assert listed(tmp_path) == []
    (trashed,) = listed(tmp_path, "--trash", "shop/orders")
    kept = datetime.datetime.fromisoformat(trashed["expires"]) - datetime.datetime.fromisoformat(trashed["deleted"])
    assert kept == datetime.timedelta(days=1)

    ended = run(tmp_path, "restore", trashed["id"])

    assert ended.returncode == 0, ended.stderr
    assert (pools.locate(made.id) / "order").read_text() == "42"
    assert [found["state"] for found in listed(tmp_path)] == ["ready"]
    assert listed(tmp_path, "--trash") == []


def test_restore_prints_the_volume_and_the_claim_that_it_is_kept_for(
    tmp_path: Path, pools: backend.DirectoryBackend, made: model.Volume
) -> None:
    pools.delete(made.id)
    volume, claim = yaml.safe_load_all(run(tmp_path, "restore", str(made.id)).stdout)
    assert volume["spec"]["csi"]["driver"] == "directory.csi.provisioner"
    assert volume["spec"]["csi"]["volumeHandle"] == str(made.id)
    assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    assert volume["spec"]["claimRef"]["name"] == claim["metadata"]["name"] == "orders"
    assert volume["spec"]["claimRef"]["namespace"] == claim["metadata"]["namespace"] == "shop"
    assert volume["spec"]["capacity"] == claim["spec"]["resources"]["requests"] == {"storage": "1Mi"}
    assert claim["spec"]["volumeName"] == volume["metadata"]["name"] == "pvc-1"
    (term,) = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    (expression,) = term["matchExpressions"]
    assert expression == {"key": "topology.directory.csi.provisioner/node", "operator": "In", "values": ["node-1"]}


def test_a_volume_that_is_nowhere_is_an_error_that_says_so(tmp_path: Path, made: model.Volume) -> None:
    ended = run(tmp_path, "restore", f"{str(made.id)[:-1]}{'0' if str(made.id)[-1] != '0' else '1'}")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "the trash holds no volume" in ended.stderr
    ended = run(tmp_path, "volumes", "shop/missing")
    assert ended.returncode == 1
    assert "there is no volume shop/missing" in ended.stderr


def test_a_volume_is_not_restored_over_one_that_was_made_after_it(
    tmp_path: Path, pools: backend.DirectoryBackend, made: model.Volume
) -> None:
    pools.delete(made.id)
    pools.create(directory_pools.request("pvc-1", parameters=_CLAIM))
    ended = run(tmp_path, "restore", str(made.id))
    assert ended.returncode == 1
    assert "made after this one was deleted" in ended.stderr
    assert list(pools.locate(made.id).iterdir()) == []


def test_a_volume_whose_retention_is_over_is_not_given_back(
    tmp_path: Path, pools: backend.DirectoryBackend, made: model.Volume
) -> None:
    pools.delete(made.id)
    ended = run(tmp_path, "restore", str(made.id), "--trash-retention=1s")
    assert ended.returncode == 1
    assert "its removal may have begun" in ended.stderr
    assert len(listed(tmp_path, "--trash")) == 1


async def test_a_volume_that_no_persistent_volume_names_is_an_orphan_and_is_discarded_when_told_so(
    tmp_path: Path,
) -> None:
    hour_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    pools = directory_pools.directory_backend(tmp_path, clock=lambda: hour_ago)
    known, orphan = (pools.create(directory_pools.request(name)).id for name in ("pvc-1", "pvc-2"))
    young = directory_pools.directory_backend(tmp_path, clock=lambda: datetime.datetime.now(datetime.UTC))
    young.create(directory_pools.request("pvc-3"))
    async with apiserver.FakeApiServer() as api:
        source = {"driver": "directory.csi.provisioner", "volumeHandle": str(known)}
        stranger = {"driver": "other.csi", "volumeHandle": str(orphan)}
        for name, csi in (("pvc-1", source), ("theirs", stranger)):
            api.create(objects.VOLUMES, {"metadata": {"name": name}, "spec": {"csi": csi}})
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_text(_KUBECONFIG % api.url)
        asked = ("--orphans", f"--kubeconfig={kubeconfig}")
        found = await asyncio.to_thread(listed, tmp_path, *asked)
        assert [entry["id"] for entry in found] == [str(orphan)]
        await asyncio.to_thread(listed, tmp_path, *asked, "--discard")
        assert await asyncio.to_thread(listed, tmp_path, *asked) == []
    assert [entry["id"] for entry in listed(tmp_path, "--trash")] == [str(orphan)]


def test_settings_of_another_backend_are_refused_by_name(tmp_path: Path) -> None:
    ended = run(tmp_path, "volumes", "--instance=blue")
    assert ended.returncode == 2
    assert "--instance: it belongs to --backend=rbd, and this is --backend=directory" in ended.stderr
