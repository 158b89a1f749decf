"""Which claims are ours, and what each is waiting for. Pure: the caller brings the claim, its class and the facts.

The kube-controller-manager's binder asks for a volume by an annotation on the claim. We need not wait for it where we
can see ourselves what it is about to find: that no volume there is fits the claim, and that its class is ours; unless
we would write to the claim as well, to assign it to a node.
"""

import dataclasses
import enum
from collections.abc import Iterable

from provisioner.controllers import names
from provisioner.kube import errors as kube_errors
from provisioner.kube import objects, quantity

DELAYED = "WaitForFirstConsumer"

_OWN_SOURCES = frozenset({("snapshot.storage.k8s.io", "VolumeSnapshot"), ("", "PersistentVolumeClaim")})


class Step(enum.Enum):
    """What to do with a claim now.

    Attributes:
        IGNORE: it is not ours, or not any more.
        WAIT: it is ours, and somebody else has the next move.
        POPULATE: it is ours by its class, but a volume populator makes its volume.
        MISSING: something it names does not exist (yet).
        REFUSE: it cannot be served as it is written.
        ASSIGN: it may go to any node, and this process is one of those that may take it.
        PROVISION: make its volume.
    """

    IGNORE = "ignore"
    WAIT = "wait"
    POPULATE = "populate"
    MISSING = "missing"
    REFUSE = "refuse"
    ASSIGN = "assign"
    PROVISION = "provision"


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """The step, the reason under which the claim is counted as pending, and what to tell the user."""

    step: Step
    reason: str = ""
    message: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Viewpoint:
    """Who looks at the claims.

    Attributes:
        driver: the name that classes give as their provisioner.
        eager: the binder's annotation need not be waited for.
        node_name: the node whose claims are ours; empty for all nodes.
    """

    driver: str
    eager: bool = True
    node_name: str = ""


_IGNORE = Verdict(Step.IGNORE)


def class_name(claim: objects.PersistentVolumeClaim) -> str:
    """The StorageClass that the claim names; the old annotation wins, as everywhere in Kubernetes."""
    return claim.metadata.annotations.get(names.BETA_CLASS) or claim.spec.storage_class_name or ""


def selected_node(claim: objects.PersistentVolumeClaim) -> str:
    """The node that the scheduler chose for the claim's first Pod, or empty."""
    return claim.metadata.annotations.get(names.SELECTED_NODE, "")


def requested_bytes(claim: objects.PersistentVolumeClaim) -> int:
    """The size asked for.

    Raises:
        kube_errors.QuantityError: it is no size.
    """
    size = quantity.parse(claim.spec.resources.requests.storage)
    if size <= 0:
        raise kube_errors.QuantityError(
            f"the claim asks for {claim.spec.resources.requests.storage} of storage", remedy="ask for more than 0"
        )
    return size


def asked_of(claim: objects.PersistentVolumeClaim) -> str:
    """The driver that the binder asks to make the volume, or empty."""
    annotations = claim.metadata.annotations
    for key in (names.STORAGE_PROVISIONER, names.BETA_STORAGE_PROVISIONER, names.MIGRATED_TO):
        if annotations.get(key):
            return annotations[key]
    return ""


def judge(
    claim: objects.PersistentVolumeClaim,
    storage_class: objects.StorageClass | None,
    view: Viewpoint,
    available: Iterable[objects.PersistentVolume] = (),
) -> Verdict:
    """Decide on one claim.

    Args:
        claim: as it was last seen.
        storage_class: the class that `class_name` names; None where there is none of the name.
        view: who looks.
        available: volumes that no claim has, of the claim's class and volume mode.
    """
    if claim.spec.volume_name or claim.metadata.deletion_timestamp is not None or not class_name(claim):
        return _IGNORE
    asked = asked_of(claim) == view.driver
    if asked_of(claim) and not asked:
        return _IGNORE
    if storage_class is None:
        return _missing_class(claim) if asked and not view.node_name else _IGNORE
    if storage_class.provisioner != view.driver:
        return _IGNORE
    return _whose_turn(claim, storage_class, view, asked, available) or _fault(claim) or Verdict(Step.PROVISION)


def _missing_class(claim: objects.PersistentVolumeClaim) -> Verdict:
    return Verdict(
        Step.MISSING,
        "class-missing",
        f'storageclass.storage.k8s.io "{class_name(claim)}" not found; create it, or name another class in a new claim',
    )


def _whose_turn(
    claim: objects.PersistentVolumeClaim,
    storage_class: objects.StorageClass,
    view: Viewpoint,
    asked: bool,
    available: Iterable[objects.PersistentVolume],
) -> Verdict | None:
    """Who has the next move, where it is not us."""
    node = selected_node(claim)
    if storage_class.volume_binding_mode == DELAYED and not node:
        return Verdict(Step.WAIT, "waiting-for-first-consumer")
    to_be_assigned = bool(view.node_name and not node)
    # The binder asks by a write to the claim, and warns the user when another write has come between.
    if not asked and (to_be_assigned or not _may_begin(claim, view, available)):
        return Verdict(Step.WAIT, "waiting-for-binder")
    if to_be_assigned:
        return Verdict(Step.ASSIGN, "waiting-for-node")
    if view.node_name and node != view.node_name:
        return _IGNORE
    return None


def _may_begin(
    claim: objects.PersistentVolumeClaim, view: Viewpoint, available: Iterable[objects.PersistentVolume]
) -> bool:
    """Whether the binder is bound to ask for a volume, so that we need not wait until it has."""
    spec = claim.spec
    if not view.eager or spec.selector is not None or _source(claim) is not None:
        return False
    return not any(fits(volume, claim) for volume in available)


def fits(volume: objects.PersistentVolume, claim: objects.PersistentVolumeClaim) -> bool:
    """Whether the binder might give this volume to the claim; in doubt it might."""
    reference = volume.spec.claim_ref
    if volume.metadata.deletion_timestamp is not None or (reference is not None and reference.uid):
        return False
    if reference is not None:
        return reference.key == claim.metadata.key
    if not set(claim.spec.access_modes) <= set(volume.spec.access_modes):
        return False
    try:
        return quantity.parse(volume.spec.capacity.storage) >= requested_bytes(claim)
    except kube_errors.QuantityError:
        return True


def _fault(claim: objects.PersistentVolumeClaim) -> Verdict | None:
    """What a claim that is ours by its class asks for in vain."""
    if claim.spec.selector is not None:
        return _refuse("claim Selector is not supported; remove spec.selector, or create a volume with its labels")
    source = _source(claim)
    if source is not None and (source.api_group, source.kind) in _OWN_SOURCES:
        return _refuse(
            f"a {source.kind} as the data source of a claim is not supported yet; create the claim without "
            "spec.dataSource and copy the data"
        )
    if source is not None:
        return Verdict(
            Step.POPULATE,
            "waiting-for-populator",
            f"Assuming an external populator will provision the volume from {source.kind} {source.name}",
        )
    if claim.spec.volume_attributes_class_name:
        return _refuse(
            f"VolumeAttributesClass {claim.spec.volume_attributes_class_name} cannot be applied: changing the "
            "attributes of volumes is not supported yet; create the claim without spec.volumeAttributesClassName"
        )
    try:
        requested_bytes(claim)
    except kube_errors.QuantityError as error:
        return _refuse(str(error))
    return None


def _source(claim: objects.PersistentVolumeClaim) -> objects.TypedReference | None:
    return claim.spec.data_source_ref or claim.spec.data_source


def _refuse(message: str) -> Verdict:
    return Verdict(Step.REFUSE, "refused", message)
