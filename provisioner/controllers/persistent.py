"""From an intent and the volume the driver made to the PersistentVolume that is written, and back.

The annotations, the finalizer and the attributes are those of the stock provisioner: either can delete what the other
has made.
"""

from provisioner import errors, model
from provisioner.controllers import names, requests, secrets
from provisioner.kube import objects, quantity


class MisfitError(errors.ProvisionerError):
    """The driver made a volume that is not what was asked for; it has to be deleted again."""


def capacity(intent: requests.Intent, volume: model.Volume) -> int:
    """The bytes to write into the PersistentVolume: the driver's word, or the request where it has none.

    Raises:
        MisfitError: the volume is smaller than the claim.
    """
    required = intent.request.size.required
    if volume.size and volume.size < required:
        raise MisfitError(
            f"the driver made a volume of {volume.size} bytes where {required} were asked for",
            remedy="this is a fault of the driver; the volume is deleted again",
        )
    return volume.size or required


def build(intent: requests.Intent, volume: model.Volume, *, driver: str, identity: str) -> objects.PersistentVolume:
    """The PersistentVolume of a claim's new volume.

    Raises:
        MisfitError: the volume is not what was asked for.
    """
    claim = intent.claim
    return objects.PersistentVolume(
        metadata=objects.ObjectMeta(
            name=intent.pv_name,
            annotations=_annotations(intent, driver),
            # Only where a deletion has something to do before the object may go.
            finalizers=(names.VOLUME_FINALIZER,) if intent.reclaim_policy == "Delete" else (),
        ),
        spec=objects.VolumeSpec(
            capacity=objects.ResourceList(storage=quantity.format(capacity(intent, volume))),
            access_modes=claim.spec.access_modes,
            persistent_volume_reclaim_policy=intent.reclaim_policy,
            storage_class_name=intent.class_name,
            volume_mode=claim.spec.volume_mode,
            mount_options=intent.mount_options,
            claim_ref=objects.CLAIMS.reference(claim),
            node_affinity=_affinity(volume),
            csi=_source(intent, volume, driver, identity),
        ),
    )


def _annotations(intent: requests.Intent, driver: str) -> dict[str, str]:
    secret = intent.secrets.get("provisioner-secret")
    deletion = (
        {names.DELETION_SECRET_NAME: secret.name, names.DELETION_SECRET_NAMESPACE: secret.namespace} if secret else {}
    )
    return {names.PROVISIONED_BY: driver, **deletion}


def _affinity(volume: model.Volume) -> objects.VolumeNodeAffinity | None:
    """One term for each place from which the volume can be reached."""
    if not volume.topologies:
        return None
    terms = tuple(
        objects.NodeSelectorTerm(
            match_expressions=tuple(
                objects.NodeSelectorRequirement(key=key, operator="In", values=(value,))
                for key, value in place.segments
            )
        )
        for place in volume.topologies
    )
    return objects.VolumeNodeAffinity(required=objects.NodeSelector(node_selector_terms=terms))


def _source(intent: requests.Intent, volume: model.Volume, driver: str, identity: str) -> objects.CsiVolumeSource:
    def reference(kind: str) -> objects.SecretReference | None:
        found = intent.secrets.get(kind)
        return objects.SecretReference(name=found.name, namespace=found.namespace) if found else None

    return objects.CsiVolumeSource(
        driver=driver,
        volume_handle=str(volume.id),
        fs_type=intent.fs_type,
        volume_attributes={**volume.context, names.PROVISIONER_IDENTITY: identity},
        controller_publish_secret_ref=reference("controller-publish-secret"),
        node_stage_secret_ref=reference("node-stage-secret"),
        node_publish_secret_ref=reference("node-publish-secret"),
        controller_expand_secret_ref=reference("controller-expand-secret"),
        node_expand_secret_ref=reference("node-expand-secret"),
    )


def same_volume(found: objects.PersistentVolume, wanted: objects.PersistentVolume) -> bool:
    """Whether the PersistentVolume that was found under our name is the one we were about to write."""
    return _identity(found) == _identity(wanted)


def _identity(volume: objects.PersistentVolume) -> tuple[str, str, str]:
    source, reference = volume.spec.csi, volume.spec.claim_ref
    return (
        source.driver if source else "",
        source.volume_handle if source else "",
        reference.uid if reference else "",
    )


def deletion_secret(volume: objects.PersistentVolume) -> secrets.Reference | None:
    """The Secret with which the volume was made, and is deleted: the class may be gone by then."""
    annotations = volume.metadata.annotations
    name = annotations.get(names.DELETION_SECRET_NAME, "")
    namespace = annotations.get(names.DELETION_SECRET_NAMESPACE, "")
    return secrets.Reference(name, namespace) if name and namespace else None


def reachable_from(volume: objects.PersistentVolume, place: model.Topology) -> bool:
    """Whether a node of this segment can reach the volume, by the PersistentVolume's own words."""
    affinity = volume.spec.node_affinity
    if affinity is None or affinity.required is None:
        return True
    labels = dict(place.segments)
    return any(
        all(
            expression.operator == "In" and labels.get(expression.key) in expression.values
            for expression in term.match_expressions
        )
        for term in affinity.required.node_selector_terms
    )
