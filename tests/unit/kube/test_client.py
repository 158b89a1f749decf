"""The client: what it asks for, what it makes of refusals, and what it repeats."""

import pytest

from provisioner import metrics
from provisioner.kube import client, config, errors, objects
from tests.fakes import apiserver
from tests.unit.kube import conftest

Effect = apiserver.Effect
Fault = apiserver.Fault

_PV = objects.PersistentVolume(
    metadata=objects.ObjectMeta(name="pvc-1"),
    spec=objects.VolumeSpec(
        capacity=objects.ResourceList(storage="1Gi"), csi=objects.CsiVolumeSource(driver="d", volume_handle="h")
    ),
)


async def test_a_list_comes_in_pages_of_one_version(
    api: apiserver.FakeApiServer, kube: client.Client, make_claim: conftest.MakeClaim
) -> None:
    for name in "abc":
        make_claim(name)
    first = await kube.list(objects.CLAIMS, limit=2)
    make_claim("d")
    second = await kube.list(objects.CLAIMS, limit=2, continue_=first.continue_)
    names = [[claim.metadata.name for claim in page.items] for page in (first, second)]
    assert (names, second.continue_) == ([["a", "b"], ["c"]], "")
    assert first.resource_version == second.resource_version


async def test_a_continue_token_older_than_the_history_is_expired(
    api: apiserver.FakeApiServer, kube: client.Client, make_claim: conftest.MakeClaim
) -> None:
    make_claim("a")
    make_claim("b")
    page = await kube.list(objects.CLAIMS, limit=1)
    api.compact()
    with pytest.raises(errors.ExpiredError):
        await kube.list(objects.CLAIMS, limit=1, continue_=page.continue_)


async def test_a_list_is_narrowed_by_namespace_and_selectors(
    kube: client.Client, make_claim: conftest.MakeClaim
) -> None:
    make_claim("a", labels={"app": "web"})
    make_claim("b", labels={"app": "web"})
    make_claim("a", namespace="other", labels={"app": "web"})
    make_claim("c")
    page = await kube.list(
        objects.CLAIMS, namespace="default", label_selector="app in (web)", field_selector="metadata.name=a"
    )
    assert [claim.metadata.key for claim in page.items] == ["default/a"]


async def test_what_is_not_there_is_not_found(kube: client.Client) -> None:
    with pytest.raises(errors.NotFoundError, match='persistentvolumeclaims "data" not found'):
        await kube.get(objects.CLAIMS, "data", "default")


async def test_a_struct_is_created_with_its_kind_and_without_empty_fields(
    api: apiserver.FakeApiServer, kube: client.Client
) -> None:
    created = await kube.create(objects.VOLUMES, _PV)
    assert created.metadata.uid
    assert api.requests[-1].body == {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "pvc-1"},
        "spec": {"capacity": {"storage": "1Gi"}, "csi": {"driver": "d", "volumeHandle": "h"}},
    }


async def test_a_mapping_is_created_in_the_namespace_it_names(
    api: apiserver.FakeApiServer, kube: client.Client
) -> None:
    created = await kube.create(objects.SECRETS, {"metadata": {"generateName": "s-", "namespace": "default"}})
    assert created.metadata.name.startswith("s-")
    assert created.metadata.namespace == "default"


async def test_creating_what_exists_says_so(kube: client.Client) -> None:
    await kube.create(objects.VOLUMES, _PV)
    with pytest.raises(errors.AlreadyExistsError, match='create persistentvolumes "pvc-1"'):
        await kube.create(objects.VOLUMES, _PV)


async def test_a_merge_patch_changes_what_it_names_alone(kube: client.Client, make_claim: conftest.MakeClaim) -> None:
    make_claim(annotations={"keep": "1", "drop": "1"})
    claim = await kube.patch(
        objects.CLAIMS, "data", {"metadata": {"annotations": {"drop": None, "new": "2"}}}, namespace="default"
    )
    assert claim.metadata.annotations == {"keep": "1", "new": "2"}


async def test_a_json_patch_takes_out_one_finalizer(kube: client.Client, make_claim: conftest.MakeClaim) -> None:
    make_claim(finalizers=["a", "b"])
    claim = await kube.patch(
        objects.CLAIMS,
        "data",
        [
            {"op": "test", "path": "/metadata/finalizers/0", "value": "a"},
            {"op": "remove", "path": "/metadata/finalizers/0"},
        ],
        namespace="default",
    )
    assert claim.metadata.finalizers == ("b",)


async def test_a_json_patch_whose_test_fails_is_invalid(kube: client.Client, make_claim: conftest.MakeClaim) -> None:
    make_claim(finalizers=["a"])
    with pytest.raises(errors.InvalidError):
        await kube.patch(
            objects.CLAIMS,
            "data",
            [{"op": "test", "path": "/metadata/finalizers/0", "value": "b"}],
            namespace="default",
        )


async def test_a_patch_for_another_object_of_that_name_is_a_conflict(
    kube: client.Client, make_claim: conftest.MakeClaim
) -> None:
    make_claim()
    with pytest.raises(errors.ConflictError):
        await kube.patch(objects.CLAIMS, "data", {"metadata": {"uid": "old"}}, namespace="default")


async def test_the_status_is_patched_through_its_subresource_alone(
    kube: client.Client, make_claim: conftest.MakeClaim
) -> None:
    make_claim()
    patch = {"status": {"phase": "Bound"}, "spec": {"volumeName": "pvc-1"}}
    by_spec = await kube.patch(objects.CLAIMS, "data", {"status": {"phase": "Bound"}}, namespace="default")
    by_status = await kube.patch(objects.CLAIMS, "data", patch, namespace="default", subresource="status")
    assert (by_spec.status.phase, by_status.status.phase) == ("Pending", "Bound")
    assert by_status.spec.volume_name == ""


async def test_a_volume_name_that_is_set_stays(kube: client.Client, make_claim: conftest.MakeClaim) -> None:
    make_claim()
    await kube.patch(objects.CLAIMS, "data", {"spec": {"volumeName": "pvc-1"}}, namespace="default")
    with pytest.raises(errors.InvalidError, match="volumeName is immutable"):
        await kube.patch(objects.CLAIMS, "data", {"spec": {"volumeName": "pvc-2"}}, namespace="default")


async def test_a_deletion_keeps_to_its_preconditions(
    api: apiserver.FakeApiServer, kube: client.Client, make_claim: conftest.MakeClaim
) -> None:
    uid = make_claim()["metadata"]["uid"]
    with pytest.raises(errors.ConflictError):
        await kube.delete(objects.CLAIMS, "data", namespace="default", uid="another")
    with pytest.raises(errors.ConflictError):
        await kube.delete(objects.CLAIMS, "data", namespace="default", uid=uid, resource_version="1")
    assert api.get(objects.CLAIMS, "data", "default") is not None
    await kube.delete(objects.CLAIMS, "data", namespace="default", uid=uid)
    assert api.get(objects.CLAIMS, "data", "default") is None


async def test_an_object_with_finalizers_outlives_its_deletion(
    api: apiserver.FakeApiServer, kube: client.Client, make_claim: conftest.MakeClaim
) -> None:
    make_claim(finalizers=["a"])
    await kube.delete(objects.CLAIMS, "data", namespace="default")
    assert (await kube.get(objects.CLAIMS, "data", "default")).metadata.deletion_timestamp is not None
    await kube.patch(objects.CLAIMS, "data", {"metadata": {"finalizers": None}}, namespace="default")
    assert api.get(objects.CLAIMS, "data", "default") is None


@pytest.mark.parametrize("name", ["..", ".", "a/b", "a%2Fb", "a?b", "a#b"])
async def test_a_name_never_reaches_another_url(api: apiserver.FakeApiServer, kube: client.Client, name: str) -> None:
    with pytest.raises((errors.InvalidError, errors.NotFoundError)):
        await kube.get(objects.SECRETS, name, "default")
    assert {(r.plural, r.namespace, r.subresource) for r in api.requests} <= {("secrets", "default", "")}


async def test_a_missing_permission_is_named_with_what_to_do(api: apiserver.FakeApiServer, kube: client.Client) -> None:
    api.forbidden.add(("create", "persistentvolumes"))
    with pytest.raises(
        errors.ForbiddenError, match=r'cannot create resource "persistentvolumes" .* grant it to the account'
    ):
        await kube.create(objects.VOLUMES, _PV)


@pytest.mark.parametrize("effect", [Effect.RESET, Effect.STATUS])
async def test_a_read_without_an_answer_is_repeated(
    api: apiserver.FakeApiServer,
    kube: client.Client,
    pauses: conftest.Pauses,
    make_claim: conftest.MakeClaim,
    effect: Effect,
) -> None:
    make_claim()
    api.faults.add(Fault(verb="get", effect=effect, times=3, status=503))
    assert (await kube.get(objects.CLAIMS, "data", "default")).metadata.name == "data"
    assert pauses.taken[-2:] == [0.4, 0.8] or effect is Effect.RESET


async def test_a_read_is_not_repeated_for_ever(api: apiserver.FakeApiServer, kube: client.Client) -> None:
    api.faults.add(Fault(verb="get", times=1000, status=500))
    with pytest.raises(errors.ServerError):
        await kube.get(objects.CLAIMS, "data", "default")
    assert api.count("get") == 5


async def test_a_refused_read_is_not_repeated(api: apiserver.FakeApiServer, kube: client.Client) -> None:
    with pytest.raises(errors.NotFoundError):
        await kube.get(objects.CLAIMS, "data", "default")
    assert api.count("get") == 1


async def test_a_write_that_is_asked_for_patience_waits_as_told(
    api: apiserver.FakeApiServer, kube: client.Client, pauses: conftest.Pauses
) -> None:
    api.faults.add(Fault(verb="create", status=429, reason="TooManyRequests", retry_after=7))
    await kube.create(objects.VOLUMES, _PV)
    assert pauses.taken == [pytest.approx(7.2)]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(verb="create", effect=Effect.RESET),
        Fault(verb="create", effect=Effect.RESET, after=True),
    ],
)
async def test_a_write_without_an_answer_is_not_repeated(
    api: apiserver.FakeApiServer, kube: client.Client, fault: Fault
) -> None:
    api.faults.add(fault)
    with pytest.raises(errors.TransportError) as raised:
        await kube.create(objects.VOLUMES, _PV)
    assert not isinstance(raised.value, errors.NotSentError)
    assert api.count("create") == 1


async def test_a_write_that_failed_on_the_server_is_not_repeated(
    api: apiserver.FakeApiServer, kube: client.Client
) -> None:
    api.faults.add(Fault(verb="create", status=500, after=True))
    with pytest.raises(errors.ServerError):
        await kube.create(objects.VOLUMES, _PV)
    assert (api.count("create"), len(api.list(objects.VOLUMES))) == (1, 1)


async def test_a_write_that_could_not_be_sent_is_repeated(
    api: apiserver.FakeApiServer, pauses: conftest.Pauses
) -> None:
    await api.stop()

    async def mend(seconds: float) -> None:
        await pauses(seconds)
        if len(pauses.taken) == 2:
            await api.start()

    kube = client.Client(api.source(), sleep=mend)
    created = await kube.create(objects.VOLUMES, _PV)
    assert (created.metadata.name, len(pauses.taken)) == ("pvc-1", 2)
    await kube.close()


async def test_a_server_that_is_not_there_is_named(api: apiserver.FakeApiServer, kube: client.Client) -> None:
    await api.stop()
    with pytest.raises(errors.NotSentError, match=f"{api.url}.*check the address"):
        await kube.get(objects.CLAIMS, "data", "default")


async def test_an_answer_that_does_not_come_ends_in_time(api: apiserver.FakeApiServer, pauses: conftest.Pauses) -> None:
    api.faults.add(Fault(verb="create", effect=Effect.HANG))
    kube = client.Client(api.source(), timeout=0.05, sleep=pauses)
    with pytest.raises(errors.TransportError, match="no answer in time"):
        await kube.create(objects.VOLUMES, _PV)
    await kube.close()


async def test_an_answer_that_is_no_json_cannot_be_read(api: apiserver.FakeApiServer, kube: client.Client) -> None:
    api.faults.add(Fault(verb="get", effect=Effect.GARBAGE))
    with pytest.raises(errors.DecodeError, match="PersistentVolumeClaim"):
        await kube.get(objects.CLAIMS, "data", "default")


class _Changing:
    """Settings that are different each time."""

    def __init__(self, url: str, *tokens: str) -> None:
        self.tokens = list(tokens)
        self._url = url

    async def connect(self) -> config.Connection:
        return config.Connection(self._url, authorization=f"Bearer {self.tokens.pop(0)}")


async def test_credentials_that_are_refused_are_read_anew_and_tried_once_more(api: apiserver.FakeApiServer) -> None:
    api.token = "new"
    kube = client.Client(_Changing(api.url, "old", "new"))
    await kube.create(objects.VOLUMES, _PV)
    assert [request.authorization for request in api.requests] == ["Bearer old", "Bearer new"]
    await kube.close()


async def test_credentials_that_stay_refused_are_said_with_what_to_do(api: apiserver.FakeApiServer) -> None:
    api.token = "right"
    kube = client.Client(_Changing(api.url, "wrong", "also wrong"))
    with pytest.raises(errors.UnauthorizedError, match="check the token or client certificate"):
        await kube.create(objects.VOLUMES, _PV)
    await kube.close()


async def test_requests_are_counted_by_verb_and_code(
    api: apiserver.FakeApiServer, kube: client.Client, registry: metrics.Metrics
) -> None:
    api.faults.add(Fault(verb="create", effect=Effect.RESET))
    with pytest.raises(errors.TransportError):
        await kube.create(objects.VOLUMES, _PV)
    await kube.create(objects.VOLUMES, _PV)
    counts = {
        code: registry.registry.get_sample_value("provisioner_kube_requests_total", {"verb": "create", "code": code})
        for code in ("error", "201")
    }
    assert counts == {"error": 1, "201": 1}
