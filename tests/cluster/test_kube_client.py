"""The client and the caches against a real API server: what the fake one claims to be like."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from provisioner import metrics
from provisioner.kube import cache, client, config, errors, events, objects
from tests.harness import control_plane as harness

Json = dict[str, Any]


@pytest.fixture
async def kube(kubeconfig: Path) -> AsyncIterator[client.Client]:
    made = client.Client(config.load(kubeconfig))
    yield made
    await made.close()


def _claim(name: str, namespace: str, **meta: object) -> Json:
    return {
        "metadata": {"name": name, "namespace": namespace, **meta},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
            "storageClassName": "nobody-provisions-it",
        },
    }


async def _until(condition: Callable[[], object], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in another program
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def _running(subject: cache.Cache[Any]) -> AsyncIterator[None]:
    task = asyncio.create_task(subject.run())
    try:
        await asyncio.wait_for(subject.synced.wait(), 30)
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_objects_are_written_and_read_as_they_are(kube: client.Client, namespace: str) -> None:
    made = await kube.create(objects.CLAIMS, _claim("data", namespace))
    assert made.spec.resources.requests.storage == "1Gi"
    assert (made.status.phase, made.metadata.finalizers) == ("Pending", ("kubernetes.io/pvc-protection",))
    with pytest.raises(errors.AlreadyExistsError):
        await kube.create(objects.CLAIMS, _claim("data", namespace))
    assert (await kube.get(objects.CLAIMS, "data", namespace)).metadata.uid == made.metadata.uid
    with pytest.raises(errors.NotFoundError):
        await kube.get(objects.CLAIMS, "another", namespace)


async def test_a_volume_made_from_a_struct_is_what_was_meant(kube: client.Client, namespace: str) -> None:
    name = f"pv-{namespace}"
    wanted = objects.PersistentVolume(
        metadata=objects.ObjectMeta(name=name),
        spec=objects.VolumeSpec(
            capacity=objects.ResourceList(storage="1Gi"),
            access_modes=("ReadWriteOnce",),
            persistent_volume_reclaim_policy="Retain",
            storage_class_name="s",
            csi=objects.CsiVolumeSource(driver="d", volume_handle="h", volume_attributes={"a": "b"}),
            claim_ref=objects.ObjectReference(kind="PersistentVolumeClaim", namespace=namespace, name="none", uid="u"),
        ),
    )
    made = await kube.create(objects.VOLUMES, wanted)
    await kube.delete(objects.VOLUMES, name, uid=made.metadata.uid)
    assert made.spec.csi == wanted.spec.csi
    assert made.spec.claim_ref == wanted.spec.claim_ref


async def test_patches_keep_to_their_preconditions(kube: client.Client, namespace: str) -> None:
    made = await kube.create(objects.CLAIMS, _claim("data", namespace))
    labelled = {"labels": {"x": "y"}}
    for wrong in ({"uid": "another"}, {"resourceVersion": "1"}):
        with pytest.raises(errors.ConflictError):
            await kube.patch(objects.CLAIMS, "data", {"metadata": {**labelled, **wrong}}, namespace=namespace)
    patched = await kube.patch(
        objects.CLAIMS, "data", {"metadata": {**labelled, "uid": made.metadata.uid}}, namespace=namespace
    )
    assert patched.metadata.labels == {"x": "y"}
    finalizers = [
        {"op": "test", "path": "/metadata/finalizers/0", "value": "another"},
        {"op": "remove", "path": "/metadata/finalizers/0"},
    ]
    with pytest.raises(errors.InvalidError):
        await kube.patch(objects.CLAIMS, "data", finalizers, namespace=namespace)


async def test_a_volume_name_that_is_set_stays(kube: client.Client, namespace: str) -> None:
    await kube.create(objects.CLAIMS, _claim("data", namespace))
    await kube.patch(objects.CLAIMS, "data", {"spec": {"volumeName": "none-such"}}, namespace=namespace)
    with pytest.raises(errors.InvalidError):
        await kube.patch(objects.CLAIMS, "data", {"spec": {"volumeName": "other"}}, namespace=namespace)


async def test_deletions_keep_to_their_preconditions(kube: client.Client, namespace: str) -> None:
    made = await kube.create(objects.SECRETS, {"metadata": {"generateName": "s-", "namespace": namespace}})
    with pytest.raises(errors.ConflictError):
        await kube.delete(objects.SECRETS, made.metadata.name, namespace=namespace, uid="another")
    with pytest.raises(errors.ConflictError):
        await kube.delete(objects.SECRETS, made.metadata.name, namespace=namespace, resource_version="1")
    await kube.delete(objects.SECRETS, made.metadata.name, namespace=namespace, uid=made.metadata.uid)


async def test_a_list_in_pages_is_of_one_version(kube: client.Client, namespace: str) -> None:
    for number in range(5):
        await kube.create(objects.CLAIMS, _claim(f"c{number}", namespace))
    page = await kube.list(objects.CLAIMS, namespace=namespace, limit=2)
    await kube.create(objects.CLAIMS, _claim("later", namespace))
    rest = await kube.list(objects.CLAIMS, namespace=namespace, limit=10, continue_=page.continue_)
    assert [claim.metadata.name for claim in (*page.items, *rest.items)] == ["c0", "c1", "c2", "c3", "c4"]


async def test_what_is_older_than_the_history_is_expired_and_listed_anew_with_the_differences_alone(
    control_plane: harness.ControlPlane, kube: client.Client, namespace: str
) -> None:
    registry = metrics.Metrics()
    await kube.create(objects.CLAIMS, _claim("kept", namespace))
    subject = cache.Cache(kube, objects.CLAIMS, namespace=namespace, metrics=registry)
    async with _running(subject):
        old = await kube.list(objects.CLAIMS, namespace=namespace, limit=1)
    told: list[str] = []
    subject.subscribe(lambda _, new: told.append(new.metadata.name if new else "-"))
    await kube.create(objects.CLAIMS, _claim("new", namespace))
    # The history that watches read is in the API server's memory, and begins anew with it.
    await asyncio.to_thread(control_plane.restart_apiserver, kill=True)
    with pytest.raises(errors.ExpiredError):
        async for _ in kube.watch(objects.CLAIMS, resource_version=old.resource_version, namespace=namespace):
            pass
    async with _running(subject):
        await _until(lambda: "new" in told)
    labels = {"kind": "PersistentVolumeClaim", "reason": "expired"}
    assert registry.registry.get_sample_value("provisioner_watch_restarts_total", labels) == 1
    assert told == ["kept", "new"]


async def test_a_cache_follows_the_api_server_through_its_restart(
    control_plane: harness.ControlPlane, kube: client.Client, namespace: str
) -> None:
    subject = cache.Cache(kube, objects.CLAIMS, namespace=namespace)
    async with _running(subject):
        await kube.create(objects.CLAIMS, _claim("before", namespace))
        await _until(lambda: subject.get(f"{namespace}/before"))
        await asyncio.to_thread(control_plane.restart_apiserver, kill=True)
        await kube.create(objects.CLAIMS, _claim("after", namespace))
        await kube.delete(objects.CLAIMS, "before", namespace=namespace)
        await _until(lambda: subject.get(f"{namespace}/after") and not subject.get(f"{namespace}/before"))


async def test_a_missing_permission_says_which(control_plane: harness.ControlPlane, namespace: str) -> None:
    control_plane.kubectl("create", "serviceaccount", "nobody", f"--namespace={namespace}")
    kube = client.Client(config.load(control_plane.kubeconfig_for_service_account(namespace, "nobody")))
    with pytest.raises(
        errors.ForbiddenError, match=r'cannot list resource "persistentvolumes".*at the cluster scope; grant it'
    ):
        await kube.list(objects.VOLUMES)
    await kube.close()


def _replace_token(kubeconfig: Path, token: str) -> str:
    """Put another token into the file that the kubeconfig names; the one before."""
    file = Path(f"{kubeconfig}.token")
    before = file.read_text()
    file.write_text(token)
    return before


async def test_a_token_that_the_server_does_not_know_is_said_and_works_once_mended(
    control_plane: harness.ControlPlane, namespace: str
) -> None:
    control_plane.kubectl("create", "serviceaccount", "nobody", f"--namespace={namespace}")
    kubeconfig = control_plane.kubeconfig_for_service_account(namespace, "nobody")
    right = _replace_token(kubeconfig, "wrong")
    kube = client.Client(config.load(kubeconfig))
    with pytest.raises(errors.UnauthorizedError, match="check the token"):
        await kube.list(objects.VOLUMES)
    _replace_token(kubeconfig, right)
    with pytest.raises(errors.ForbiddenError):
        await kube.list(objects.VOLUMES)
    await kube.close()


async def test_an_expired_certificate_is_said_with_its_date(control_plane: harness.ControlPlane) -> None:
    kube = client.Client(config.load(control_plane.kubeconfig_for("late", days=-1)))
    with pytest.raises(errors.ConfigError, match=r"client certificate .* expired on .*renew it"):
        await kube.list(objects.VOLUMES)
    await kube.close()


async def test_events_are_accepted_and_counted(kube: client.Client, namespace: str) -> None:
    claim = await kube.create(objects.CLAIMS, _claim("data", namespace))
    volume = objects.ObjectReference(api_version="v1", kind="PersistentVolume", name=f"pv-{namespace}", uid=namespace)
    recorder = events.Recorder(kube, component="test.csi.provisioner", instance="here")
    task = asyncio.create_task(recorder.run())
    for _ in range(3):
        recorder.record(objects.CLAIMS.reference(claim), "Warning", "ProvisioningFailed", "ü" * 2000)
    recorder.record(volume, "Normal", "Told", "m")
    await recorder.flush(10)
    task.cancel()
    said = [e for e in (await kube.list(objects.EVENTS, namespace=namespace)).items if e.source.host == "here"]
    assert [(event.involved_object.name, event.count) for event in said] == [("data", 3)]
    in_default = await kube.list(objects.EVENTS, namespace="default")
    assert f"pv-{namespace}" in {event.involved_object.name for event in in_default.items}


@pytest.mark.parametrize(
    "kind",
    [
        objects.CLAIMS,
        objects.VOLUMES,
        objects.CLASSES,
        objects.NODES,
        objects.CSI_NODES,
        objects.ATTACHMENTS,
        objects.SECRETS,
        objects.EVENTS,
    ],
    ids=lambda kind: kind.plural,
)
async def test_every_kind_is_where_we_look_for_it(kube: client.Client, kind: objects.Kind[Any]) -> None:
    assert (await kube.list(kind)).resource_version
