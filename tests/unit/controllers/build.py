"""Claims, classes and volumes for tests, as short as the one thing that each test is about."""

import datetime
from typing import Any

from provisioner import csiclient, model
from provisioner.controllers import claims, names, options, requests
from provisioner.kube import objects

DRIVER = "driver.example"
WHERE = "topology.example/node"
DELETED = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def claim(
    name: str = "data", *, uid: str = "u1", class_name: str | None = "fast", **spec: Any
) -> objects.PersistentVolumeClaim:
    """A claim in namespace `app`; `annotations`, `deleted` and `size` are what they say."""
    meta = {"annotations": spec.pop("annotations", {})}
    if spec.pop("deleted", False):
        meta["deletion_timestamp"] = DELETED
    size = spec.pop("size", "1Gi")
    return objects.PersistentVolumeClaim(
        metadata=objects.ObjectMeta(name=name, namespace="app", uid=uid, resource_version="7", **meta),
        spec=objects.ClaimSpec(
            storage_class_name=class_name,
            resources=objects.ResourceRequirements(requests=objects.ResourceList(storage=size)),
            **{"access_modes": ("ReadWriteOnce",), **spec},
        ),
    )


def asked(driver: str = DRIVER) -> dict[str, str]:
    """The annotation by which the binder asks for a volume."""
    return {names.STORAGE_PROVISIONER: driver}


def storage_class(name: str = "fast", *, provisioner: str = DRIVER, **fields: Any) -> objects.StorageClass:
    return objects.StorageClass(metadata=objects.ObjectMeta(name=name), provisioner=provisioner, **fields)


def delayed() -> objects.StorageClass:
    return storage_class(volume_binding_mode="WaitForFirstConsumer")


def volume(
    name: str = "pv", *, claim_ref: objects.ObjectReference | None = None, **spec: Any
) -> objects.PersistentVolume:
    size = spec.pop("size", "1Gi")
    return objects.PersistentVolume(
        metadata=objects.ObjectMeta(name=name, uid=f"uid-{name}"),
        spec=objects.VolumeSpec(
            capacity=objects.ResourceList(storage=size),
            storage_class_name="fast",
            claim_ref=claim_ref,
            **{"access_modes": ("ReadWriteOnce",), **spec},
        ),
    )


def view(**fields: Any) -> claims.Viewpoint:
    return claims.Viewpoint(driver=DRIVER, **fields)


def driver(*, topology: bool = False, multi_writer: bool = False) -> csiclient.Driver:
    return csiclient.Driver(
        name=DRIVER,
        vendor_version="1",
        plugin_capabilities=frozenset({"VOLUME_ACCESSIBILITY_CONSTRAINTS"} if topology else ()),
        controller_capabilities=frozenset({"SINGLE_NODE_MULTI_WRITER"} if multi_writer else ()),
    )


def place(node: str) -> model.Topology:
    return model.Topology.of({WHERE: node})


def intent(
    made_for: objects.PersistentVolumeClaim | None = None,
    of_class: objects.StorageClass | None = None,
    by: csiclient.Driver | None = None,
    **settings: Any,
) -> requests.Intent:
    return requests.resolve(
        made_for or claim(),
        of_class or storage_class(),
        driver=by or driver(),
        accessibility=model.Accessibility(),
        settings=options.Options(**settings),
    )


def term(**values: tuple[str, ...]) -> objects.TopologySelectorTerm:
    """An `allowedTopologies` term; underscores in a key stand for dots."""
    return objects.TopologySelectorTerm(
        match_label_expressions=tuple(
            objects.TopologySelectorRequirement(key=key.replace("_", "."), values=allowed)
            for key, allowed in values.items()
        )
    )


def csi_node(name: str, *keys: str, registered: str = DRIVER) -> objects.CsiNode:
    return objects.CsiNode(
        metadata=objects.ObjectMeta(name=name),
        spec=objects.CsiNodeSpec(drivers=(objects.CsiNodeDriver(name=registered, node_id=name, topology_keys=keys),)),
    )
