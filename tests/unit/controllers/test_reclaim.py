"""What becomes of a volume whose claim is gone."""

import asyncio

import pytest

from provisioner import csiclient
from provisioner.controllers import names
from provisioner.kube import objects
from tests.fakes import apiserver, csi_client
from tests.unit.controllers import build, conftest

Cluster = conftest.Cluster
Code = csiclient.Code
Fault = csi_client.Fault
When = csi_client.When


async def _bound(cluster: Cluster, name: str = "data", class_name: str = "fast") -> str:
    """A claim that is bound to a volume; the volume's name."""
    cluster.add_claim(name, class_name=class_name)
    cluster.run(cluster.answer_pulses)
    await cluster.until(lambda: cluster.phase(name) == "Bound")
    await cluster.until(lambda: cluster.volume_of(name)["status"]["phase"] == "Bound")
    return str(cluster.volume_of(name)["metadata"]["name"])


def _is_gone(cluster: Cluster, name: str) -> bool:
    return cluster.api.get(objects.VOLUMES, name) is None


async def test_a_deleted_claim_takes_its_volume_with_it_without_waiting_for_the_binder(cluster: Cluster) -> None:
    await cluster.start()
    name = await _bound(cluster)
    cluster.api.delete(objects.CLAIMS, "data", "app")
    await cluster.until(lambda: _is_gone(cluster, name))
    assert ({}, [f"vol-{name}"]) == (cluster.csi.volumes, cluster.csi.called("delete_volume"))
    assert cluster.counted("controller_persistentvolume_delete_total", **{"class": "fast"}) == 1.0


async def test_the_driver_is_asked_first_then_the_finalizer_dropped_and_the_object_deleted(cluster: Cluster) -> None:
    await cluster.start()
    name = await _bound(cluster)
    cluster.csi.gate.clear()
    cluster.api.requests.clear()
    cluster.api.delete(objects.CLAIMS, "data", "app")
    await cluster.until(lambda: cluster.csi.called("delete_volume"))
    writes = {"patch", "delete"}
    assert [r for r in cluster.api.requests if r.verb in writes and r.name == name] == []
    cluster.csi.gate.set()
    await cluster.until(lambda: _is_gone(cluster, name))
    done = [(r.verb, r.subresource) for r in cluster.api.requests if r.verb in writes and r.name == name]
    assert done == [("patch", "status"), ("delete", "")]


async def test_where_the_status_may_not_be_written_the_finalizer_is_dropped_all_the_same(cluster: Cluster) -> None:
    await cluster.start(binding="controller")
    claim = cluster.add_claim()
    cluster.ask()
    await cluster.until(cluster.volumes)
    cluster.api.faults.add(apiserver.Fault(verb="patch", kind=objects.VOLUMES, subresource="status", status=403))
    cluster.api.delete(objects.CLAIMS, "data", "app")
    await cluster.until(lambda: _is_gone(cluster, f"pvc-{claim['metadata']['uid']}"))


async def test_foreign_finalizers_are_left_alone(cluster: Cluster) -> None:
    await cluster.start()
    name = await _bound(cluster)
    mine = cluster.volume_of()["metadata"]["finalizers"]
    cluster.api.patch(
        objects.VOLUMES, name, {"metadata": {"finalizers": ["other.example/a", *mine, "other.example/b"]}}
    )
    cluster.api.delete(objects.CLAIMS, "data", "app")

    def finalizers() -> list[str]:
        volume = cluster.api.get(objects.VOLUMES, name)
        return volume["metadata"]["finalizers"] if volume else []

    await cluster.until(lambda: names.VOLUME_FINALIZER not in finalizers())
    assert finalizers() == ["other.example/a", "other.example/b"]


async def test_a_finalizer_that_moved_meanwhile_is_found_at_its_new_place(cluster: Cluster) -> None:
    await cluster.start()
    name = await _bound(cluster)
    cluster.csi.gate.clear()
    cluster.api.delete(objects.CLAIMS, "data", "app")
    await cluster.until(lambda: cluster.csi.called("delete_volume"))
    cluster.api.patch(
        objects.VOLUMES, name, {"metadata": {"finalizers": ["other.example/first", names.VOLUME_FINALIZER]}}
    )
    cluster.csi.gate.set()
    await cluster.until(lambda: cluster.volumes()[0]["metadata"]["finalizers"] == ["other.example/first"])


async def test_a_volume_whose_claim_is_still_there_is_never_deleted_whatever_its_phase_says(cluster: Cluster) -> None:
    await cluster.start()
    name = await _bound(cluster)
    cluster.api.patch(objects.VOLUMES, name, {"status": {"phase": "Released"}}, subresource="status")
    await cluster.until(lambda: cluster.api.count("get", objects.CLAIMS))
    await asyncio.sleep(0.05)
    assert cluster.csi.called("delete_volume") == []


async def test_a_volume_whose_claim_went_elsewhere_is_deleted_when_it_was_released(cluster: Cluster) -> None:
    await cluster.start(binding="controller")
    claim = cluster.add_claim()
    cluster.ask()
    await cluster.until(cluster.volumes)
    name = f"pvc-{claim['metadata']['uid']}"
    cluster.api.patch(objects.CLAIMS, "data", {"spec": {"volumeName": "other"}}, namespace="app")
    await asyncio.sleep(0.05)
    assert cluster.csi.called("delete_volume") == []
    cluster.api.patch(objects.VOLUMES, name, {"status": {"phase": "Released"}}, subresource="status")
    await cluster.until(lambda: _is_gone(cluster, name))


async def test_a_namesake_of_the_claim_does_not_hold_its_volume(cluster: Cluster) -> None:
    await cluster.start()
    name = await _bound(cluster)
    cluster.api.delete(objects.CLAIMS, "data", "app")
    cluster.add_claim()
    await cluster.until(lambda: _is_gone(cluster, name))


async def test_a_claim_that_went_while_nobody_watched_is_noticed_at_the_start(cluster: Cluster) -> None:
    await cluster.start()
    name = await _bound(cluster)
    await cluster.stop()
    cluster.api.delete(objects.CLAIMS, "data", "app")
    cluster.api.delete(objects.CLASSES, "fast")
    await cluster.start()
    await cluster.until(lambda: _is_gone(cluster, name))


async def test_a_policy_changed_to_retain_a_moment_ago_keeps_the_data(cluster: Cluster) -> None:
    await cluster.start()
    name = await _bound(cluster)
    hang = cluster.api.faults.add(apiserver.Fault(verb="get", kind=objects.VOLUMES, status=503))
    cluster.api.delete(objects.CLAIMS, "data", "app")
    await cluster.until(lambda: hang.hits)
    cluster.api.patch(objects.VOLUMES, name, {"spec": {"persistentVolumeReclaimPolicy": "Retain"}})
    await cluster.until(lambda: cluster.api.count("get", objects.VOLUMES) > 1)
    await asyncio.sleep(0.05)
    assert ([], [f"vol-{name}"]) == (cluster.csi.called("delete_volume"), list(cluster.csi.volumes))


async def test_a_retained_volume_keeps_its_data_and_says_once_where_it_is(cluster: Cluster) -> None:
    cluster.add_class("keep", reclaimPolicy="Retain")
    await cluster.start()
    name = await _bound(cluster, class_name="keep")
    cluster.api.delete(objects.CLAIMS, "data", "app")
    cluster.api.patch(objects.VOLUMES, name, {"status": {"phase": "Released"}}, subresource="status")
    await cluster.until(lambda: cluster.events("VolumeRetained", "Normal"))
    cluster.api.patch(objects.VOLUMES, name, {"metadata": {"labels": {"a": "b"}}})
    event = cluster.events("VolumeRetained")[0]
    assert (name, 1) == (event["involvedObject"]["name"], event["count"])
    assert f"Claim app/data was deleted; its data is kept in volume vol-{name}" in event["message"]
    assert cluster.csi.called("delete_volume") == []


async def test_a_retained_object_that_is_deleted_goes_and_the_data_stays(cluster: Cluster) -> None:
    await cluster.start()
    name = await _bound(cluster)
    cluster.api.patch(objects.VOLUMES, name, {"spec": {"persistentVolumeReclaimPolicy": "Retain"}})
    cluster.api.delete(objects.VOLUMES, name)
    await cluster.until(lambda: _is_gone(cluster, name))
    assert (cluster.csi.called("delete_volume"), len(cluster.csi.volumes)) == ([], 1)


async def test_the_object_of_a_bound_volume_that_is_deleted_waits_for_the_claim(cluster: Cluster) -> None:
    await cluster.start()
    name = await _bound(cluster)
    cluster.api.delete(objects.VOLUMES, name)
    await asyncio.sleep(0.05)
    assert cluster.csi.called("delete_volume") == []
    cluster.api.delete(objects.CLAIMS, "data", "app")
    await cluster.until(lambda: _is_gone(cluster, name))
    assert cluster.csi.volumes == {}


@pytest.mark.parametrize(
    "change",
    [
        {"metadata": {"annotations": {names.PROVISIONED_BY: "other.example"}}},
        {"spec": {"csi": {"driver": "other.example"}}},
        {"spec": {"csi": None, "hostPath": {"path": "/srv"}}},
    ],
    ids=["another made it", "another driver", "no CSI at all"],
)
async def test_other_peoples_volumes_are_not_touched(cluster: Cluster, change: conftest.Json) -> None:
    volume: conftest.Json = {
        "metadata": {"name": "theirs", "annotations": {names.PROVISIONED_BY: build.DRIVER}},
        "spec": {
            "persistentVolumeReclaimPolicy": "Delete",
            "claimRef": {"namespace": "app", "name": "gone", "uid": "u"},
            "csi": {"driver": build.DRIVER, "volumeHandle": "theirs"},
        },
    }
    for part, fields in change.items():
        for key, value in fields.items():
            volume[part][key] = {**volume[part].get(key, {}), **value} if value else value
    if volume["spec"]["csi"] is None:
        del volume["spec"]["csi"]
    cluster.api.create(objects.VOLUMES, volume)
    await cluster.start()
    cluster.api.patch(objects.VOLUMES, "theirs", {"status": {"phase": "Released"}}, subresource="status")
    name = await _bound(cluster)
    cluster.api.delete(objects.CLAIMS, "data", "app")
    await cluster.until(lambda: _is_gone(cluster, name))
    assert [f"vol-{name}"] == cluster.csi.called("delete_volume")


async def test_a_volume_made_by_hand_for_our_driver_is_deleted_like_ours(cluster: Cluster) -> None:
    cluster.api.create(
        objects.VOLUMES,
        {
            "metadata": {"name": "static"},
            "spec": {
                "persistentVolumeReclaimPolicy": "Delete",
                "claimRef": {"namespace": "app", "name": "gone", "uid": "u"},
                "csi": {"driver": build.DRIVER, "volumeHandle": "by-hand"},
            },
        },
    )
    await cluster.start()
    await cluster.until(lambda: _is_gone(cluster, "static"))
    assert cluster.csi.called("delete_volume") == ["by-hand"]


async def test_a_volume_in_use_is_told_of_and_deleted_when_it_is_free(cluster: Cluster) -> None:
    cluster.csi.plan("delete_volume", *[Fault(Code.FAILED_PRECONDITION, message="mounted on node n1")] * 3)
    await cluster.start()
    name = await _bound(cluster)
    cluster.api.delete(objects.CLAIMS, "data", "app")
    await cluster.until(lambda: _is_gone(cluster, name))
    await cluster.until(lambda: [e["count"] for e in cluster.events("VolumeFailedDelete", "Warning")] == [3])
    assert "mounted on node n1" in cluster.events("VolumeFailedDelete")[0]["message"]


async def test_a_deletion_that_takes_long_is_no_warning(cluster: Cluster) -> None:
    cluster.csi.plan("delete_volume", Fault(Code.DEADLINE_EXCEEDED), Fault(Code.ABORTED))
    await cluster.start()
    name = await _bound(cluster)
    cluster.api.delete(objects.CLAIMS, "data", "app")
    await cluster.until(lambda: _is_gone(cluster, name))
    assert cluster.events(type_="Warning") == []


async def test_one_volume_is_never_deleted_twice_at_once_nor_again_after_success(cluster: Cluster) -> None:
    await cluster.start()
    name = await _bound(cluster)
    cluster.api.faults.add(apiserver.Fault(verb="delete", kind=objects.VOLUMES, status=500, times=2))
    cluster.csi.gate.clear()
    cluster.api.delete(objects.CLAIMS, "data", "app")
    await cluster.until(lambda: cluster.csi.called("delete_volume"))
    for phase in ("Released", "Failed", "Released"):
        cluster.api.patch(objects.VOLUMES, name, {"status": {"phase": phase}}, subresource="status")
    cluster.csi.gate.set()
    await cluster.until(lambda: _is_gone(cluster, name))
    assert (cluster.csi.overlaps, len(cluster.csi.called("delete_volume"))) == ([], 1)


async def test_without_the_right_to_say_released_a_volume_is_deleted_all_the_same(cluster: Cluster) -> None:
    cluster.api.forbidden = {("patch", "persistentvolumes/status")}
    await cluster.start(binding="controller")
    cluster.add_claim()
    cluster.ask()
    await cluster.until(cluster.volumes)
    cluster.api.delete(objects.CLAIMS, "data", "app")
    await cluster.until(lambda: not cluster.volumes())


async def test_the_secret_of_a_deletion_comes_from_the_volume_and_its_loss_blocks_nothing(cluster: Cluster) -> None:
    cluster.add_class(
        "secret",
        parameters={
            "csi.storage.k8s.io/provisioner-secret-name": "s",
            "csi.storage.k8s.io/provisioner-secret-namespace": "storage",
        },
    )
    cluster.api.create(objects.SECRETS, {"metadata": {"name": "s", "namespace": "storage"}, "data": {"k": "dg=="}})
    await cluster.start()
    await _bound(cluster, "one", "secret")
    name = await _bound(cluster, "two", "secret")
    cluster.api.delete(objects.CLASSES, "secret")
    cluster.csi.secrets.clear()
    cluster.api.delete(objects.CLAIMS, "one", "app")
    await cluster.until(lambda: len(cluster.volumes()) == 1)
    cluster.api.delete(objects.SECRETS, "s", "storage")
    cluster.api.delete(objects.CLAIMS, "two", "app")
    await cluster.until(lambda: _is_gone(cluster, name))
    assert cluster.csi.secrets == [{"k": "v"}, {}]


async def test_an_attached_volume_is_deleted_as_soon_as_it_is_detached(cluster: Cluster) -> None:
    capabilities = frozenset({"CREATE_DELETE_VOLUME", "PUBLISH_UNPUBLISH_VOLUME"})
    cluster.csi = csi_client.FakeClient(name=build.DRIVER, controller_capabilities=capabilities)
    await cluster.start(retry_min=3600.0, retry_max=3600.0)
    name = await _bound(cluster)
    attachment = {"attacher": build.DRIVER, "nodeName": "n1", "source": {"persistentVolumeName": name}}
    cluster.api.create(objects.ATTACHMENTS, {"metadata": {"name": "a"}, "spec": attachment})
    await cluster.until(lambda: cluster.watcher and len(cluster.watcher._caches[-1]) == 1)
    cluster.api.delete(objects.CLAIMS, "data", "app")
    await cluster.until(
        lambda: cluster.counted("controller_persistentvolume_delete_failed_total", **{"class": "fast"}) == 1
    )
    assert (cluster.csi.called("delete_volume"), cluster.events(type_="Warning")) == ([], [])
    cluster.api.delete(objects.ATTACHMENTS, "a")
    await cluster.until(lambda: _is_gone(cluster, name))


async def test_a_driver_that_attaches_nothing_is_not_held_up_by_attachments_nor_watches_them(cluster: Cluster) -> None:
    await cluster.start()
    name = await _bound(cluster)
    cluster.api.delete(objects.CLAIMS, "data", "app")
    await cluster.until(lambda: _is_gone(cluster, name))
    assert cluster.api.count("list", objects.ATTACHMENTS) == 0


async def test_after_a_kill_in_the_middle_a_deletion_is_finished_by_the_next_process(cluster: Cluster) -> None:
    await cluster.start()
    name = await _bound(cluster)
    cluster.api.faults.add(apiserver.Fault(verb="delete", kind=objects.VOLUMES, effect=apiserver.Effect.HANG))
    cluster.api.delete(objects.CLAIMS, "data", "app")
    await cluster.until(lambda: cluster.api.count("delete", objects.VOLUMES) > 1)
    await cluster.kill()
    cluster.api.faults.clear()
    await cluster.start()
    await cluster.until(lambda: _is_gone(cluster, name))
    assert cluster.csi.volumes == {}


async def test_a_node_deletes_only_the_volumes_that_stand_on_it(cluster: Cluster) -> None:
    cluster.csi = csi_client.FakeClient(name=build.DRIVER, topology=True, place=build.place("n1"))
    for node in ("n1", "n2"):
        terms = [{"matchExpressions": [{"key": build.WHERE, "operator": "In", "values": [node]}]}]
        cluster.api.create(
            objects.VOLUMES,
            {
                "metadata": {"name": f"on-{node}"},
                "spec": {
                    "persistentVolumeReclaimPolicy": "Delete",
                    "claimRef": {"namespace": "app", "name": "gone", "uid": "u"},
                    "csi": {"driver": build.DRIVER, "volumeHandle": f"on-{node}"},
                    "nodeAffinity": {"required": {"nodeSelectorTerms": terms}},
                },
            },
        )
    await cluster.start(node_name="n1")
    await cluster.until(lambda: _is_gone(cluster, "on-n1"))
    assert (cluster.csi.called("delete_volume"), _is_gone(cluster, "on-n2")) == (["on-n1"], False)


async def test_a_404_that_is_not_the_api_servers_word_is_no_proof_that_a_claim_is_gone(cluster: Cluster) -> None:
    await cluster.start()
    name = await _bound(cluster)
    bare = cluster.api.faults.add(apiserver.Fault(verb="get", kind=objects.CLAIMS, status=404, reason="", times=2))
    cluster.api.patch(objects.VOLUMES, name, {"status": {"phase": "Released"}}, subresource="status")
    await cluster.until(lambda: cluster.api.count("get", objects.CLAIMS) > bare.times)
    cluster.add_claim("other")
    await cluster.until(lambda: cluster.phase("other") == "Bound")
    assert (bare.times, []) == (bare.hits, cluster.csi.called("delete_volume"))


async def test_a_volume_that_is_changed_to_retain_while_its_claim_is_looked_for_is_kept(cluster: Cluster) -> None:
    await cluster.start()
    cluster.run(cluster.answer_pulses)
    cluster.add_claim()
    await cluster.until(lambda: cluster.phase() == "Bound" and cluster.volume_of()["status"]["phase"] == "Bound")
    name = cluster.volume_of()["metadata"]["name"]
    slow = cluster.api.faults.add(
        apiserver.Fault(verb="get", kind=objects.CLAIMS, status=429, reason="TooManyRequests", retry_after=1)
    )
    cluster.api.delete(objects.CLAIMS, "data", "app")
    await cluster.until(lambda: slow.hits)
    cluster.api.patch(objects.VOLUMES, name, {"spec": {"persistentVolumeReclaimPolicy": "Retain"}})
    looked = cluster.api.count("get", objects.VOLUMES)
    await cluster.until(lambda: cluster.api.count("get", objects.VOLUMES) > looked)
    cluster.add_claim("other")
    await cluster.until(lambda: cluster.phase("other") == "Bound")
    assert not cluster.csi.called("delete_volume")
