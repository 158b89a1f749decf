"""What `deploy/` asks of an API server: manifests that it takes to the letter, and no right that is not needed."""

import json

import pytest

from tests.harness import control_plane as harness
from tests.harness import image_build

SYSTEM = "provisioner-system"
OURS = f"system:serviceaccount:{SYSTEM}:provisioner"


@pytest.fixture(scope="module")
def deployed(control_plane: harness.ControlPlane) -> harness.ControlPlane:
    """The control plane with our namespace and rights, and nothing that would touch other tests' claims."""
    control_plane.kubectl("apply", "--server-side", "--validate=strict", f"--kustomize={image_build.ROOT}/deploy/base")
    return control_plane


def test_the_api_server_takes_the_overlay_with_strict_validation(deployed: harness.ControlPlane) -> None:
    overlay = f"--kustomize={image_build.ROOT}/deploy/overlays/directory"
    said = deployed.kubectl("apply", "--server-side", "--validate=strict", "--dry-run=server", overlay)
    assert "daemonset.apps/provisioner-node serverside-applied (server dry run)" in said.splitlines()


@pytest.mark.parametrize("example", ["claim.yaml", "statefulset.yaml"])
def test_the_api_server_takes_the_examples_with_strict_validation(
    control_plane: harness.ControlPlane, namespace: str, example: str
) -> None:
    manifest = image_build.ROOT / "deploy" / "examples" / example
    said = control_plane.apply(manifest.read_text(), f"--namespace={namespace}", "--dry-run=server")
    assert "created (server dry run)" in said


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
def test_our_service_account_may_not_do_what_no_controller_does(
    deployed: harness.ControlPlane, verb: str, resource: str
) -> None:
    asked = ("auth", "can-i", verb, resource, "--all-namespaces", f"--as={OURS}")
    assert deployed.kubectl(*asked, check=False).strip() == "no"


def test_the_class_standard_is_the_default_and_waits_for_the_scheduler(deployed: harness.ControlPlane) -> None:
    overlay = f"--kustomize={image_build.ROOT}/deploy/overlays/directory"
    applied = deployed.kubectl("apply", "--server-side", "--dry-run=server", "--output=json", overlay)
    classes = {
        item["metadata"]["name"]: item for item in json.loads(applied)["items"] if item["kind"] == "StorageClass"
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
    }
