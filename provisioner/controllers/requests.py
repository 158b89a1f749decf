"""From a claim and its class to the one CreateVolume request that is made for it, and made again until it is answered.

An `Intent` is resolved once and kept until the call has ended for good: whatever happens to the class, the nodes or
the claim meanwhile, a retry carries the same arguments, and the PersistentVolume is written from the same values.
"""

import dataclasses
from collections.abc import Mapping

from provisioner import csiclient, model
from provisioner.controllers import claims, names, options, parameters, secrets
from provisioner.kube import objects

_PLAIN_MODES = {
    "ReadWriteOnce": model.AccessMode.SINGLE_NODE_WRITER,
    "ReadWriteOncePod": model.AccessMode.SINGLE_NODE_WRITER,
    "ReadOnlyMany": model.AccessMode.MULTI_NODE_READER_ONLY,
    "ReadWriteMany": model.AccessMode.MULTI_NODE_MULTI_WRITER,
}
_EXACT_MODES = _PLAIN_MODES | {
    "ReadWriteOnce": model.AccessMode.SINGLE_NODE_MULTI_WRITER,
    "ReadWriteOncePod": model.AccessMode.SINGLE_NODE_SINGLE_WRITER,
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What is asked for one claim.

    Attributes:
        claim: the claim as it was when the request was resolved.
        request: without secrets, which are read for each call.
        secrets: by the kind of call, the words of `secrets.KINDS`.
        can_reschedule: a node was selected, and the driver knows topology.
    """

    claim: objects.PersistentVolumeClaim
    request: model.VolumeRequest
    secrets: Mapping[str, secrets.Reference]
    class_name: str
    reclaim_policy: str
    mount_options: tuple[str, ...]
    fs_type: str
    can_reschedule: bool

    @property
    def pv_name(self) -> str:
        """The PersistentVolume is named like the volume."""
        return self.request.name


def resolve(
    claim: objects.PersistentVolumeClaim,
    storage_class: objects.StorageClass,
    *,
    driver: csiclient.Driver,
    accessibility: model.Accessibility,
    settings: options.Options,
) -> Intent:
    """Resolve the request of a claim that `claims.judge` says to provision.

    Raises:
        errors.InvalidParameterError: the class has a parameter that cannot be.
        errors.QuantityError: the claim's size is none.
    """
    meta = claim.metadata
    pv_name = f"{settings.volume_name_prefix}-{meta.uid}"
    words = secrets.ClaimWords(pv_name, meta.name, meta.namespace, meta.annotations)
    split = parameters.split(storage_class.parameters)
    extra = parameters.metadata(claim_name=meta.name, namespace=meta.namespace, pv_name=pv_name)
    block = claim.spec.volume_mode == "Block"
    fs_type = "" if block else split.fs_type
    request = model.VolumeRequest(
        name=pv_name,
        size=model.SizeRange(required=claims.requested_bytes(claim)),
        capabilities=_capabilities(claim, storage_class, driver, fs_type),
        parameters={**split.driver, **(extra if settings.extra_create_metadata else {})},
        accessibility=accessibility,
    )
    return Intent(
        claim=claim,
        request=request,
        secrets=secrets.references(storage_class.parameters, words),
        class_name=claims.class_name(claim),
        reclaim_policy=storage_class.reclaim_policy or "Delete",
        mount_options=tuple(storage_class.mount_options),
        fs_type=fs_type,
        can_reschedule=driver.supports_topology and bool(claims.selected_node(claim)),
    )


def _capabilities(
    claim: objects.PersistentVolumeClaim,
    storage_class: objects.StorageClass,
    driver: csiclient.Driver,
    fs_type: str,
) -> tuple[model.Capability, ...]:
    """One for each access mode of the claim."""
    exact = names.SINGLE_NODE_MULTI_WRITER in driver.controller_capabilities
    modes = _EXACT_MODES if exact else _PLAIN_MODES
    if claim.spec.volume_mode == "Block":
        return tuple(
            model.Capability(access_mode=modes[mode], access_type=model.AccessType.BLOCK)
            for mode in claim.spec.access_modes
        )
    return tuple(
        model.Capability(access_mode=modes[mode], fs_type=fs_type, mount_flags=tuple(storage_class.mount_options))
        for mode in claim.spec.access_modes
    )
