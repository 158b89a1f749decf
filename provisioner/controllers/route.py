"""Brings each change in the cluster to the controllers it concerns."""

from provisioner.controllers import assign, bind, names, provision, reclaim, topology, vacate, world
from provisioner.kube import objects


class Router:
    """Listens to the caches for the controllers of one watcher."""

    def __init__(
        self,
        known: world.World,
        provisioner: provision.Provisioner,
        reclaimer: reclaim.Reclaimer,
        vacator: vacate.Vacator,
        *,
        binder: bind.Binder | None,
        assigner: assign.Assigner | None,
    ) -> None:
        self._known = known
        self._provisioner = provisioner
        self._reclaimer = reclaimer
        self._vacator = vacator
        self._binder = binder
        self._assigner = assigner
        self._connected = False

    def connect(self) -> None:
        """Begin to listen; what the caches hold already is told at once."""
        self._known.volumes.subscribe(self._volume)
        self._known.claims.subscribe(self._claim)
        self._known.classes.subscribe(self._class)
        self._known.csi_nodes.subscribe(self._csi_node)
        if self._known.attachments is not None:
            self._known.attachments.subscribe(self._attachment)
        self._connected = True

    def _claim(self, old: objects.PersistentVolumeClaim | None, new: objects.PersistentVolumeClaim | None) -> None:
        if old is not None and (new is None or new.metadata.uid != old.metadata.uid):
            self._claim_gone(old)
            old = None
        if new is None:
            return
        if new.spec.volume_name:
            self._claim_bound(old, new)
        elif old is None or _differs(old, new):
            self._look(new)

    def _claim_gone(self, claim: objects.PersistentVolumeClaim) -> None:
        self._provisioner.gone(claim)
        self._reclaimer.claim_gone(claim)
        if self._assigner is not None:
            self._assigner.gone(claim)

    def _claim_bound(self, old: objects.PersistentVolumeClaim | None, new: objects.PersistentVolumeClaim) -> None:
        if old is None or not old.spec.volume_name:
            self._provisioner.bound(new)
            if self._assigner is not None:
                self._assigner.gone(new)
        if self._binder is not None and new.status.phase == "Lost" and self._is_our_claim(new):
            self._binder.repair(new)

    def _is_our_claim(self, claim: objects.PersistentVolumeClaim) -> bool:
        storage_class = self._known.class_of(claim)
        return storage_class is not None and storage_class.provisioner == self._known.driver

    def _look(self, claim: objects.PersistentVolumeClaim) -> None:
        self._provisioner.consider(claim)
        self._vacator.consider(claim)
        if self._assigner is not None:
            self._assigner.consider(claim)

    def _volume(self, old: objects.PersistentVolume | None, new: objects.PersistentVolume | None) -> None:
        if old is not None and (new is None or new.metadata.uid != old.metadata.uid):
            self._reclaimer.volume_gone(old)
            self._provisioner.volume_gone(old)
            old = None
        if new is None or names.PULSE_LABEL in new.metadata.labels:
            return
        self._reclaimer.changed(old, new)
        self._reclaimer.consider(new)

    def _class(self, old: objects.StorageClass | None, new: objects.StorageClass | None) -> None:
        if not self._connected:
            return  # All claims are looked at anyway.
        known = new or old
        for claim in self._known.claims_of_class(known.metadata.name) if known else ():
            if not claim.spec.volume_name:
                self._look(claim)

    def _csi_node(self, old: objects.CsiNode | None, new: objects.CsiNode | None) -> None:
        """Where the driver has come or gone, claims may be served that could not be, or have lost their node."""
        if not self._connected:
            return  # Many nodes times many claims: once is enough.
        before = topology.keys_of(old, self._known.driver) if old is not None else None
        after = topology.keys_of(new, self._known.driver) if new is not None else None
        if before == after and new is not None:
            return
        for claim in self._known.claims.values():
            if not claim.spec.volume_name:
                self._look(claim)

    def _attachment(self, old: objects.VolumeAttachment | None, new: objects.VolumeAttachment | None) -> None:
        if new is None and old is not None:
            volume = self._known.volumes.get(old.spec.source.persistent_volume_name)
            if volume is not None:
                self._reclaimer.consider(volume)


def _differs(old: objects.PersistentVolumeClaim, new: objects.PersistentVolumeClaim) -> bool:
    """Whether anything that a decision rests on has changed."""
    return (
        old.spec != new.spec
        or old.metadata.annotations != new.metadata.annotations
        or old.metadata.deletion_timestamp != new.metadata.deletion_timestamp
    )
