"""Deletes the volumes whose claims are gone, by the PersistentVolume's reclaim policy.

The order is DeleteVolume, our finalizer, the PersistentVolume, so that whatever is cut short is found again: a volume
that was released is looked at as long as its object is there. (The stock provisioner drops its finalizer last, and so
changes the object under the hands of the controller that removes Kubernetes' own.)

The binder marks a volume Released when it comes to it; a claim that is gone is gone all the same, so we look for
ourselves. Before anything is deleted, claim and volume are read live: a cache is late, and what it does not know any
more may have been changed to Retain a moment ago.
"""

from collections.abc import Mapping

import structlog

from provisioner import csiclient, errors, model
from provisioner.controllers import credentials, names, outcomes, persistent, tools
from provisioner.kube import errors as kube_errors
from provisioner.kube import objects, queue

_LET_GO = frozenset({"Released", "Failed"})
_PATIENCE = 3
_PATCH_TRIES = 5
_RELEASE = ({"op": "add", "path": "/status/phase", "value": "Released"},)

_log = structlog.get_logger(__name__)


class StillInUseError(errors.ProvisionerError):
    """The volume cannot be deleted before somebody has let go of it."""


class Reclaimer:
    """Deletes volumes.

    Args:
        own_place: where this process's node stands (per-node mode): only volumes that are there are ours to delete.
    """

    def __init__(self, kit: tools.Tools, own_place: model.Topology | None = None) -> None:
        self._kit = kit
        self._own_place = own_place
        self._emptied: set[str] = set()
        self._deleted: set[str] = set()
        self._refused: dict[str, int] = {}
        self.queue = kit.queue("reclaim", self.handle)

    def consider(self, volume: objects.PersistentVolume) -> None:
        """Look at a volume that is new or has changed, or whose claim has gone; returns at once."""
        if self._is_ours(volume) and self._is_due(volume):
            self.queue.add(volume.metadata.name)

    def changed(self, old: objects.PersistentVolume | None, new: objects.PersistentVolume) -> None:
        """Tell, once, where the data is when a volume that is to be kept has lost its claim."""
        released = old is not None and old.status.phase != "Released" and new.status.phase == "Released"
        if released and new.spec.persistent_volume_reclaim_policy == "Retain" and self._is_ours(new):
            self._kit.say.retained(new)

    def claim_gone(self, claim: objects.PersistentVolumeClaim) -> None:
        """A claim was deleted."""
        for volume in tuple(self._kit.known.volumes_of_claim(claim.metadata.uid)):
            self.consider(volume)

    def volume_gone(self, volume: objects.PersistentVolume) -> None:
        """A PersistentVolume is gone for good."""
        self._emptied.discard(volume.metadata.uid)
        self._deleted.discard(volume.metadata.uid)
        self._refused.pop(volume.metadata.name, None)

    def _is_ours(self, volume: objects.PersistentVolume) -> bool:
        source = volume.spec.csi
        if source is None or source.driver != self._kit.driver.name:
            return False
        maker = volume.metadata.annotations.get(names.PROVISIONED_BY, self._kit.driver.name)
        if maker != self._kit.driver.name:
            return False
        if not self._kit.settings.per_node:
            return True
        return (
            self._own_place is not None
            and volume.spec.node_affinity is not None
            and persistent.reachable_from(volume, self._own_place)
        )

    def _is_due(self, volume: objects.PersistentVolume) -> bool:
        """Whether the volume might have lost its claim, as far as the caches know."""
        reference, meta = volume.spec.claim_ref, volume.metadata
        if reference is None or not reference.uid or meta.uid in self._deleted:
            return False
        if meta.deletion_timestamp is not None and names.VOLUME_FINALIZER not in meta.finalizers:
            return False
        if volume.spec.persistent_volume_reclaim_policy != "Delete":
            return meta.deletion_timestamp is not None
        if volume.status.phase in _LET_GO:
            return True
        return self._kit.known.claim(reference.namespace, reference.name, reference.uid) is None

    async def handle(self, name: str) -> queue.Outcome:
        """Work on one volume, as the queue asks."""
        seen = self._kit.known.volumes.get(name)
        if seen is None or not self._is_ours(seen) or not self._is_due(seen):
            return queue.done()
        try:
            await self._reclaim(seen)
        except kube_errors.NotFoundError:
            pass  # Somebody else was faster.
        except (errors.ProvisionerError, csiclient.CallError) as error:
            return self._failed(seen, error)
        self._refused.pop(name, None)
        return queue.done()

    async def _reclaim(self, seen: objects.PersistentVolume) -> None:
        """Do what the volume, as it is now, calls for.

        The volume itself is read last, directly before anything is deleted: that a claim's uid is gone stays true,
        however long a read takes, but a volume may be changed to Retain, or be given to another claim, meanwhile.
        """
        begun = self._kit.clock.time()
        claim_is_gone = await self._claim_is_gone(seen)
        secret = await self._secret(seen) if claim_is_gone else {}
        volume = await self._kit.client.get(objects.VOLUMES, seen.metadata.name)
        if volume.metadata.uid != seen.metadata.uid or volume.spec.claim_ref != seen.spec.claim_ref:
            return  # The change comes through the watch as well, and is looked at then.
        if not self._is_due(volume):
            return
        if volume.spec.persistent_volume_reclaim_policy != "Delete":
            await self._let_go(volume, release=False)
        elif claim_is_gone:
            await self._delete(volume, secret)
            took = self._kit.clock.time() - begun
            self._kit.metrics.delete_total.labels(volume.spec.storage_class_name).inc()
            self._kit.metrics.delete_seconds.labels(volume.spec.storage_class_name).observe(took)

    async def _claim_is_gone(self, volume: objects.PersistentVolume) -> bool:
        """Whether nobody can use the volume any more, by the API server's word of this moment."""
        reference = volume.spec.claim_ref
        if reference is None or volume.spec.persistent_volume_reclaim_policy != "Delete":
            return False
        try:
            claim = await self._kit.client.get(objects.CLAIMS, reference.name, reference.namespace)
        except kube_errors.NotFoundError:
            return True
        if claim.metadata.uid != reference.uid:
            return True
        elsewhere = claim.spec.volume_name not in ("", volume.metadata.name)
        return elsewhere and volume.status.phase in _LET_GO

    async def _delete(self, volume: objects.PersistentVolume, secret: Mapping[str, str]) -> None:
        meta = volume.metadata
        if meta.uid not in self._emptied:
            self._refuse_attached(volume)
            await self._delete_content(volume, secret)
            self._emptied.add(meta.uid)
        await self._let_go(volume, release=True)
        if meta.deletion_timestamp is None:
            await self._kit.client.delete(objects.VOLUMES, meta.name, uid=meta.uid)
        self._deleted.add(meta.uid)

    def _refuse_attached(self, volume: objects.PersistentVolume) -> None:
        if self._kit.known.attachments is None:
            return
        for attachment in self._kit.known.attachments.values():
            if attachment.spec.source.persistent_volume_name == volume.metadata.name:
                raise StillInUseError(
                    f"persistentvolume {volume.metadata.name} is still attached to node {attachment.spec.node_name}",
                    remedy="it is deleted when the attacher has let go of it",
                )

    async def _secret(self, volume: objects.PersistentVolume) -> Mapping[str, str]:
        """What the driver is given to delete the volume; one that is missing stops nothing."""
        if volume.metadata.uid in self._emptied:
            return {}
        try:
            return await credentials.read(self._kit.client, persistent.deletion_secret(volume))
        except outcomes.NotReadyError as error:
            _log.warning("a volume is deleted without its Secret", pv=volume.metadata.name, error=str(error))
            return {}

    async def _delete_content(self, volume: objects.PersistentVolume, secret: Mapping[str, str]) -> None:
        source = volume.spec.csi
        if source is None:
            return
        await self._kit.csi.delete_volume(source.volume_handle, secret, timeout=self._kit.settings.csi_timeout)
        _log.info("a volume was deleted", pv=volume.metadata.name, volume=source.volume_handle)

    async def _let_go(self, volume: objects.PersistentVolume, *, release: bool) -> None:
        """Take our finalizer, and no other, off the very object; others may come and go meanwhile.

        Args:
            release: say with the same change that no claim holds the volume, which the protection of bound volumes
                waits for. Where we may not, the binder says it when it comes to it.
        """
        meta = volume.metadata
        for _ in range(_PATCH_TRIES):
            releasing = release and volume.status.phase not in _LET_GO
            change = [*(_RELEASE if releasing else ()), *_without_finalizer(volume)]
            if not change:
                return
            try:
                volume = await self._kit.client.patch(
                    objects.VOLUMES,
                    meta.name,
                    [{"op": "test", "path": "/metadata/uid", "value": meta.uid}, *change],
                    subresource="status" if releasing else None,
                )
            except (kube_errors.InvalidError, kube_errors.ConflictError):
                volume = await self._kit.client.get(objects.VOLUMES, meta.name)
                if volume.metadata.uid != meta.uid:
                    return
            except kube_errors.ForbiddenError as error:
                if not releasing:
                    raise
                release = False
                _log.info("a volume is released at the binder's own pace", pv=meta.name, error=str(error))
        raise StillInUseError(f"the finalizers of persistentvolume {meta.name} change all the time")

    def _failed(
        self, volume: objects.PersistentVolume, error: errors.ProvisionerError | csiclient.CallError
    ) -> queue.Outcome:
        name = volume.metadata.name
        self._refused[name] = self._refused.get(name, 0) + 1
        self._kit.metrics.delete_failed.labels(volume.spec.storage_class_name).inc()
        _log.info("a volume cannot be deleted yet", pv=name, error=str(error))
        ordinary = isinstance(error, StillInUseError) or (
            isinstance(error, csiclient.CallError) and error.code in outcomes.AT_WORK
        )
        if not ordinary or self._refused[name] > _PATIENCE:
            self._kit.say.delete_failed(volume, str(error))
        return queue.retry()


def _without_finalizer(volume: objects.PersistentVolume) -> list[dict[str, str]]:
    """The JSON patch that takes our finalizer off, where it is."""
    if names.VOLUME_FINALIZER not in volume.metadata.finalizers:
        return []
    path = f"/metadata/finalizers/{volume.metadata.finalizers.index(names.VOLUME_FINALIZER)}"
    return [{"op": "test", "path": path, "value": names.VOLUME_FINALIZER}, {"op": "remove", "path": path}]
