"""What `deploy/` asks of an API server: manifests that it takes to the letter, and no right that is not needed."""

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from provisioner import controllers
from tests.harness import control_plane as harness
from tests.harness import image_build, program

_OVERLAYS = ("directory", "directory-shared")
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
    ],
)
def test_the_api_server_takes_each_overlay_with_strict_validation(
    deployed: harness.ControlPlane, overlay: str, workloads: set[tuple[str, str]]
) -> None:
    found = _objects(deployed, overlay)
    assert {key for key in found if key[0] in {"DaemonSet", "Deployment"}} == workloads


def test_the_overlays_may_be_in_one_cluster(deployed: harness.ControlPlane) -> None:
    folders = [f"{image_build.ROOT}/deploy/overlays/{overlay}" for overlay in _OVERLAYS]
    manifests = [list(yaml.safe_load_all(deployed.kubectl("kustomize", folder))) for folder in folders]
    own, shared = ({(one["kind"], one["metadata"]["name"]): one for one in manifest} for manifest in manifests)
    common = own.keys() & shared.keys()
    assert {key: own[key] for key in common} == {key: shared[key] for key in common}
    assert {kind for kind, _ in common} == {"Namespace", "ClusterRole", "Service"}
    selected = [
        one["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"]
        for one in (*own.values(), *shared.values())
        if one["kind"] in {"DaemonSet", "Deployment"}
    ]
    assert sorted(selected) == ["node", "shared-controller", "shared-node"]


@pytest.mark.parametrize("example", ["claim.yaml", "shared-claim.yaml", "statefulset.yaml"])
def test_the_api_server_takes_the_examples_with_strict_validation(
    control_plane: harness.ControlPlane, namespace: str, example: str
) -> None:
    manifest = image_build.ROOT / "deploy" / "examples" / example
    said = control_plane.apply(manifest.read_text(), f"--namespace={namespace}", "--dry-run=server")
    assert "created (server dry run)" in said


def test_each_process_has_just_the_rights_that_the_watcher_says_it_needs(deployed: harness.ControlPlane) -> None:
    whole_cluster, one_node = _table()
    assert _rights(_objects(deployed, "directory")) == {"provisioner": one_node}
    assert _rights(_objects(deployed, "directory-shared")) == {
        "provisioner-shared": whole_cluster,
        "provisioner-shared-node": set(),
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
        if key[0] in {"DaemonSet", "Deployment"}
    }
    assert {
        name: (pod["serviceAccountName"], pod["automountServiceAccountToken"]) for (_, name), pod in pods.items()
    } == {
        "provisioner-node": ("provisioner", True),
        "provisioner-shared-node": ("provisioner-shared-node", False),
        "provisioner-shared-controller": ("provisioner-shared", True),
    }


def test_a_missing_mount_never_becomes_a_shared_pool(deployed: harness.ControlPlane) -> None:
    arguments = [
        argument
        for (kind, _), one in _objects(deployed, "directory-shared").items()
        if kind in {"DaemonSet", "Deployment"}
        for argument in one["spec"]["template"]["spec"]["containers"][0]["args"]
    ]
    assert arguments.count("--shared-pools") == 2
    assert "--init-pools" not in arguments


@pytest.mark.parametrize("account", ["provisioner", "provisioner-shared", "provisioner-shared-node"])
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
    }
