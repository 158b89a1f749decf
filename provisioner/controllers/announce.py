"""What users are told on their claims and volumes, in the words that they know from the stock provisioner."""

from provisioner import csiclient, errors, model
from provisioner.controllers import requests
from provisioner.kube import events, objects

_ENFORCEMENT = "enforcement"


class Announcer:
    """Writes events; never waits, never fails."""

    def __init__(self, recorder: events.Recorder) -> None:
        self._recorder = recorder

    def provisioning(self, claim: objects.PersistentVolumeClaim) -> None:
        """The driver is at work on the claim's volume, and not done at once."""
        self._on_claim(
            claim,
            "Normal",
            "Provisioning",
            f'External provisioner is provisioning volume for claim "{claim.metadata.key}"',
        )

    def waiting(self, claim: objects.PersistentVolumeClaim, text: str) -> None:
        """The driver is at work; nobody has to do anything."""
        self._on_claim(claim, "Normal", "Provisioning", text)

    def populator(self, claim: objects.PersistentVolumeClaim, text: str) -> None:
        """Somebody else makes the volume."""
        self._on_claim(claim, "Normal", "Provisioning", text)

    def failed(self, claim: objects.PersistentVolumeClaim, text: str) -> None:
        """The attempt failed; `text` says why and what to do."""
        self._on_claim(claim, "Warning", "ProvisioningFailed", text)

    def succeeded(self, intent: requests.Intent, volume: model.Volume) -> None:
        """The claim has its volume; once more where its size is only a number."""
        self._on_claim(
            intent.claim, "Normal", "ProvisioningSucceeded", f"Successfully provisioned volume {intent.pv_name}"
        )
        if volume.context.get(_ENFORCEMENT) == "none":
            self._on_claim(
                intent.claim,
                "Normal",
                "SizeNotEnforced",
                f"The size of volume {intent.pv_name} is reserved, but nothing stops a Pod from writing more than it",
            )

    def rescheduled(self, claim: objects.PersistentVolumeClaim, node: str, why: str) -> None:
        """Another node has to be chosen for the claim."""
        self._on_claim(
            claim,
            "Normal",
            "Rescheduling",
            f"Node {node} is no longer selected for this claim: {why}; another is chosen",
        )

    def delete_failed(self, volume: objects.PersistentVolume, text: str) -> None:
        """A volume cannot be deleted now."""
        self._on_volume(volume, "Warning", "VolumeFailedDelete", text)

    def retained(self, volume: objects.PersistentVolume) -> None:
        """A volume has lost its claim and is kept."""
        source, claim = volume.spec.csi, volume.spec.claim_ref
        if source is None or claim is None:
            return
        self._on_volume(
            volume,
            "Normal",
            "VolumeRetained",
            f"Claim {claim.key} was deleted; its data is kept in volume {source.volume_handle} of driver "
            f"{source.driver}{_places(volume)}, because the reclaim policy is Retain. To use it again, remove "
            "spec.claimRef from this PersistentVolume and name it in a claim's spec.volumeName; to remove the data "
            "too, set spec.persistentVolumeReclaimPolicy to Delete",
        )

    def _on_claim(self, claim: objects.PersistentVolumeClaim, kind: str, reason: str, text: str) -> None:
        self._recorder.record(objects.CLAIMS.reference(claim), kind, reason, text)

    def _on_volume(self, volume: objects.PersistentVolume, kind: str, reason: str, text: str) -> None:
        self._recorder.record(objects.VOLUMES.reference(volume), kind, reason, text)


def failure(class_name: str, error: errors.ProvisionerError | csiclient.CallError) -> str:
    """The text of a failed attempt: the driver's own words, with the code where it gave one."""
    said = f"{error.message} ({error.code.name})" if isinstance(error, csiclient.CallError) else str(error)
    return f'failed to provision volume with StorageClass "{class_name}": {said}'


def _places(volume: objects.PersistentVolume) -> str:
    affinity = volume.spec.node_affinity
    if affinity is None or affinity.required is None:
        return ""
    places = (
        ", ".join(f"{expression.key}={'|'.join(expression.values)}" for expression in term.match_expressions)
        for term in affinity.required.node_selector_terms
    )
    return f" on {' or '.join(places)}"
