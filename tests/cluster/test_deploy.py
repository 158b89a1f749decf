"""What `deploy/` asks of an API server: manifests that it takes to the letter, and no right that is not needed."""

import functools
import itertools
import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from provisioner import controllers, roles, settings
from tests.harness import control_plane as harness
from tests.harness import image_build, program

_OVERLAYS = ("directory", "directory-shared", "rbd")
_WORKLOADS = {"DaemonSet", "Deployment"}
_ROW = re.compile(r"    ([a-z/]+) {2,}(\S.*?) {2,}(\S.*)")


@pytest.fixture(scope="module")
def deployed(control_plane: harness.ControlPlane) -> harness.ControlPlane:
    """The control plane with our namespace and rights, and nothing that would touch other tests' claims."""
    for role in program.MANIFESTS:
        program.grant(control_plane, role)
    return control_plane


def _objects(plane: harness.ControlPlane, overlay: str) -> Mapping[tuple[str, str], Any]:
    """What the API server makes of an overlay, by kind and name; nothing is changed."""
    folder = f"--kustomize={image_build.ROOT}/deploy/overlays/{overlay}"
    flags = ("--server-side", "--validate=strict", "--dry-run=server", "--output=json")
    found = json.loads(plane.kubectl("apply", *flags, folder))["items"]
    return {(one["kind"], one["metadata"]["name"]): one for one in found}


@pytest.mark.parametrize(
    ("overlay", "workloads"),
    [
        ("directory", {("DaemonSet", "provisioner-node")}),
        (
            "directory-shared",
            {("DaemonSet", "provisioner-shared-node"), ("Deployment", "provisioner-shared-controller")},
        ),
        ("rbd", {("DaemonSet", "provisioner-rbd-node"), ("Deployment", "provisioner-rbd-controller")}),
    ],
)
def test_the_api_server_takes_each_overlay_with_strict_validation(
    deployed: harness.ControlPlane, overlay: str, workloads: set[tuple[str, str]]
) -> None:
    found = _objects(deployed, overlay)
    assert {key for key in found if key[0] in _WORKLOADS} == workloads


def test_the_overlays_may_be_in_one_cluster(deployed: harness.ControlPlane) -> None:
    folders = [f"{image_build.ROOT}/deploy/overlays/{overlay}" for overlay in _OVERLAYS]
    manifests = [list(yaml.safe_load_all(deployed.kubectl("kustomize", folder))) for folder in folders]
    found = [{(one["kind"], one["metadata"]["name"]): one for one in manifest} for manifest in manifests]
    common = {key for one, other in itertools.combinations(found, 2) for key in one.keys() & other.keys()}
    for key in common:
        first, *others = (overlay[key] for overlay in found if key in overlay)
        assert all(other == first for other in others), key
    assert {kind for kind, _ in common} == {"Namespace", "ClusterRole", "Service"}
    selected = [
        one["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"]
        for overlay in found
        for (kind, _), one in overlay.items()
        if kind in _WORKLOADS
    ]
    assert sorted(selected) == ["node", "rbd-controller", "rbd-node", "shared-controller", "shared-node"]


@pytest.mark.parametrize(
    "example", ["claim", "shared-claim", "statefulset", "rbd/claim", "rbd/statefulset", "rbd/secret"]
)
def test_the_api_server_takes_the_examples_with_strict_validation(
    deployed: harness.ControlPlane, namespace: str, example: str
) -> None:
    manifest = (image_build.ROOT / "deploy" / "examples" / f"{example}.yaml").read_text()
    scope = () if example.endswith("secret") else (f"--namespace={namespace}",)
    said = deployed.apply(manifest, *scope, "--dry-run=server")
    assert "created (server dry run)" in said


def test_each_process_has_just_the_rights_that_the_watcher_says_it_needs(deployed: harness.ControlPlane) -> None:
    whole_cluster, one_node = _table()
    assert _rights(_objects(deployed, "directory")) == {"provisioner": one_node}
    assert _rights(_objects(deployed, "directory-shared")) == {
        "provisioner-shared": whole_cluster,
        "provisioner-shared-node": set(),
    }
    attaches = {("list", "volumeattachments"), ("watch", "volumeattachments")}
    assert _rights(_objects(deployed, "rbd")) == {
        "provisioner-rbd": whole_cluster | attaches,
        "provisioner-rbd-node": set(),
    }


def _table() -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """The rights in the watcher's own words, without those that no class or driver of `deploy/` needs."""
    _heads, *rows = _ROW.findall(str(controllers.__doc__))
    whole_cluster, one_node = (
        {(verb, row[0]) for row in rows for verb in re.sub(r"\(.*?\)|-", "", row[column]).split()} for column in (1, 2)
    )
    return whole_cluster, one_node


def _rights(found: Mapping[tuple[str, str], Any]) -> Mapping[str, set[tuple[str, str]]]:
    """What each service account of an overlay may do, by all that is bound to it."""
    rights: dict[str, set[tuple[str, str]]] = {name: set() for kind, name in found if kind == "ServiceAccount"}
    for (kind, _), binding in found.items():
        if kind == "ClusterRoleBinding":
            rules = found["ClusterRole", binding["roleRef"]["name"]]["rules"]
            for subject in binding["subjects"]:
                rights[subject["name"]] |= {
                    (verb, resource) for rule in rules for verb in rule["verbs"] for resource in rule["resources"]
                }
    return rights


def test_a_process_that_only_mounts_has_no_token(deployed: harness.ControlPlane) -> None:
    pods = {
        key: one["spec"]["template"]["spec"]
        for overlay in _OVERLAYS
        for key, one in _objects(deployed, overlay).items()
        if key[0] in _WORKLOADS
    }
    assert {
        name: (pod["serviceAccountName"], pod["automountServiceAccountToken"]) for (_, name), pod in pods.items()
    } == {
        "provisioner-node": ("provisioner", True),
        "provisioner-shared-node": ("provisioner-shared-node", False),
        "provisioner-shared-controller": ("provisioner-shared", True),
        "provisioner-rbd-node": ("provisioner-rbd-node", False),
        "provisioner-rbd-controller": ("provisioner-rbd", True),
    }


def test_only_the_provisioner_s_own_pods_have_the_ceph_clusters_and_only_as_a_mounted_secret(
    deployed: harness.ControlPlane,
) -> None:
    found = _objects(deployed, "rbd")
    pods = [one["spec"]["template"]["spec"] for (kind, _), one in found.items() if kind in _WORKLOADS]
    mounted = [volume["secret"]["secretName"] for pod in pods for volume in pod["volumes"] if "secret" in volume]
    assert mounted == ["rbd-clusters", "rbd-clusters"]
    assert {kind for kind, _ in found} & {"Secret", "ConfigMap"} == set()
    classes = [one["parameters"] for (kind, _), one in found.items() if kind == "StorageClass"]
    assert {key for parameters in classes for key in parameters} == {"pool", "csi.storage.k8s.io/fstype"}


def test_a_missing_mount_never_becomes_a_shared_pool(deployed: harness.ControlPlane) -> None:
    containers = [
        one["spec"]["template"]["spec"]["containers"][0]
        for (kind, _), one in _objects(deployed, "directory-shared").items()
        if kind in _WORKLOADS
    ]
    given = [{each["name"]: each.get("value") for each in container["env"]} for container in containers]
    assert [each["PROVISIONER_SHARED_POOLS"] for each in given] == ["true", "true"]
    assert not any("--init-pools" in container["args"] for container in containers)
    assert not any("PROVISIONER_INIT_POOLS" in each for each in given)


@pytest.mark.parametrize("overlay", _OVERLAYS)
def test_each_overlay_s_settings_are_ones_that_the_program_takes(deployed: harness.ControlPlane, overlay: str) -> None:
    for (kind, _), one in _objects(deployed, overlay).items():
        if kind in _WORKLOADS:
            container = one["spec"]["template"]["spec"]["containers"][0]
            role, *flags = container["args"]
            variables = {each["name"]: each.get("value", "node-1") for each in container["env"]}
            settings.load(
                settings.ALL_GROUPS,
                file={flag.partition("=")[0].removeprefix("--"): flag.partition("=")[2] or True for flag in flags},
                environment=variables,
                flags={},
                check=functools.partial(roles.faults, roles.Role(role)),
            )


@pytest.mark.parametrize("account", ["provisioner", "provisioner-shared", "provisioner-shared-node", "provisioner-rbd"])
@pytest.mark.parametrize(
    ("verb", "resource"),
    [
        ("get", "secrets"),
        ("list", "secrets"),
        ("create", "pods"),
        ("list", "pods"),
        ("delete", "persistentvolumeclaims"),
        ("create", "persistentvolumeclaims"),
        ("update", "persistentvolumes"),
        ("patch", "nodes"),
        ("patch", "storageclasses"),
        ("list", "configmaps"),
        ("create", "clusterrolebindings"),
    ],
)
def test_our_service_accounts_may_not_do_what_no_controller_does(
    deployed: harness.ControlPlane, account: str, verb: str, resource: str
) -> None:
    asked = (
        "auth",
        "can-i",
        verb,
        resource,
        "--all-namespaces",
        f"--as=system:serviceaccount:{program.SYSTEM}:{account}",
    )
    assert deployed.kubectl(*asked, check=False).strip() == "no"


def test_the_class_standard_is_the_only_default_and_waits_for_the_scheduler(
    deployed: harness.ControlPlane,
) -> None:
    classes = {
        name: one
        for overlay in _OVERLAYS
        for (kind, name), one in _objects(deployed, overlay).items()
        if kind == "StorageClass"
    }
    assert [
        name
        for name, item in classes.items()
        if item["metadata"].get("annotations", {}).get("storageclass.kubernetes.io/is-default-class") == "true"
    ] == ["standard"]
    assert {name: (item["reclaimPolicy"], item["volumeBindingMode"]) for name, item in classes.items()} == {
        "standard": ("Delete", "WaitForFirstConsumer"),
        "standard-immediate": ("Delete", "Immediate"),
        "standard-retain": ("Retain", "WaitForFirstConsumer"),
        "shared": ("Delete", "Immediate"),
        "shared-retain": ("Retain", "Immediate"),
        "rbd": ("Delete", "Immediate"),
        "rbd-retain": ("Retain", "Immediate"),
    }
