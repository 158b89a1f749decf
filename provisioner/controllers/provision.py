"""Makes the volumes: a claim becomes a CreateVolume call, its answer a PersistentVolume.

The watcher feeds `consider` with every claim it sees; what needs work goes through a queue, keyed by the claim's uid
too, so that a namesake is another claim. A call that may still be at work in the driver is repeated with the same
arguments until it has an answer, also after the claim is gone: a volume that comes of it is saved as a
PersistentVolume, and `reclaim` deletes it in the ordinary way. A volume that was made is saved for as long as it
takes; it is never undone.
"""

import dataclasses
from collections.abc import Callable

import structlog

from provisioner import csiclient, errors, model
from provisioner.controllers import (
    announce,
    attempts,
    claims,
    credentials,
    outcomes,
    persistent,
    requests,
    reschedule,
    resolve,
    tools,
)
from provisioner.kube import errors as kube_errors
from provisioner.kube import objects, queue

# So many calls without an answer pass for an ordinary wait; from then on the user is warned.
_PATIENCE = 4
# A claim that has its volume after so many seconds needs no word that it is being worked on.
_UNREMARKABLE = 1.0

_log = structlog.get_logger(__name__)


class Provisioner:
    """Turns claims into volumes.

    Args:
        view: who looks at the claims.
        saved: told of each claim and its new PersistentVolume: the binder's feed.
        exhausted: told of the uid of each claim for which there is no room here.
    """

    def __init__(
        self,
        kit: tools.Tools,
        resolver: resolve.Resolver,
        view: claims.Viewpoint,
        *,
        saved: Callable[[objects.PersistentVolumeClaim, objects.PersistentVolume], None],
        exhausted: Callable[[str], None],
    ) -> None:
        self._kit = kit
        self._resolver = resolver
        self._view = view
        self._saved = saved
        self._exhausted = exhausted
        self._attempts: dict[str, attempts.Attempt] = {}
        self._served: set[str] = set()
        self.queue = kit.queue("provision", self.handle)

    def consider(self, claim: objects.PersistentVolumeClaim) -> None:
        """Look at a claim that is new or has changed, or whose class has; returns at once."""
        uid = claim.metadata.uid
        if uid in self._served:
            return
        verdict = self._kit.known.judge(claim, self._view)
        if verdict.step is claims.Step.IGNORE and uid not in self._attempts:
            self._kit.pending.clear(uid)
        elif verdict.step in (claims.Step.WAIT, claims.Step.ASSIGN) and uid not in self._attempts:
            self._kit.pending.set(uid, verdict.reason)
        else:
            # A claim with a node has a Pod that waits for it.
            lane = queue.Lane.WAITED_FOR if claims.selected_node(claim) else queue.Lane.BULK
            self.queue.add(f"{claim.metadata.key}/{uid}", lane)

    def gone(self, claim: objects.PersistentVolumeClaim) -> None:
        """A claim was deleted: what may be at work for it goes on, the rest is forgotten."""
        uid = claim.metadata.uid
        self._served.discard(uid)
        self._kit.pending.clear(uid)
        if uid not in self._attempts:
            self.queue.forget(f"{claim.metadata.key}/{uid}")

    def bound(self, claim: objects.PersistentVolumeClaim) -> None:
        """A claim has its volume."""
        self.gone(claim)

    def volume_gone(self, volume: objects.PersistentVolume) -> None:
        """A PersistentVolume was deleted: a claim that was served with it, and never bound, begins again."""
        reference = volume.spec.claim_ref
        if reference is None or reference.uid not in self._served:
            return
        self._served.discard(reference.uid)
        claim = self._kit.known.claim(reference.namespace, reference.name, reference.uid)
        if claim is not None:
            self.consider(claim)

    def at_work_for(self, uid: str) -> bool:
        """Whether the driver may be making a volume for the claim of this uid."""
        return uid in self._attempts

    async def handle(self, key: str) -> queue.Outcome:
        """Work on one claim, as the queue asks."""
        namespace, name, uid = key.split("/")
        attempt = self._attempts.get(uid)
        if attempt is None:
            claim = self._kit.known.claim(namespace, name, uid)
            if claim is None or uid in self._served:
                return queue.done()
            verdict = self._kit.known.judge(claim, self._view)
            if verdict.step is not claims.Step.PROVISION:
                return self._not_now(claim, verdict)
            if (found := self._saved_before(claim)) is not None:
                return self._resume(claim, found)
            begun = self._begin(claim)
            if isinstance(begun, queue.Outcome):
                return begun
            attempt = begun
        return await self._attempt(attempt)

    # How an attempt begins.

    def _not_now(self, claim: objects.PersistentVolumeClaim, verdict: claims.Verdict) -> queue.Outcome:
        uid = claim.metadata.uid
        if verdict.step is claims.Step.IGNORE:
            self._kit.pending.clear(uid)
            return queue.done()
        self._kit.pending.set(uid, verdict.reason)
        if verdict.step is claims.Step.POPULATE:
            self._kit.say.populator(claim, verdict.message)
        elif verdict.step is claims.Step.REFUSE:
            self._kit.say.failed(claim, verdict.message)
        elif verdict.step is claims.Step.MISSING:
            self._kit.say.failed(claim, verdict.message)
            return queue.retry()
        return queue.done()

    def _saved_before(self, claim: objects.PersistentVolumeClaim) -> objects.PersistentVolume | None:
        """The PersistentVolume that an earlier process saved for the claim."""
        name = f"{self._kit.settings.volume_name_prefix}-{claim.metadata.uid}"
        for volume in self._kit.known.volumes_of_claim(claim.metadata.uid):
            if volume.metadata.name == name:
                return volume
        return None

    def _resume(self, claim: objects.PersistentVolumeClaim, found: objects.PersistentVolume) -> queue.Outcome:
        if found.metadata.deletion_timestamp is not None:
            return queue.retry_after(self._kit.settings.retry_min)
        self._served.add(claim.metadata.uid)
        self._kit.pending.set(claim.metadata.uid, "binding")
        self._saved(claim, found)
        return queue.done()

    def _begin(self, claim: objects.PersistentVolumeClaim) -> attempts.Attempt | queue.Outcome:
        storage_class = self._kit.known.class_of(claim)
        if storage_class is None:
            return queue.retry()
        try:
            intent = self._resolver.intent(claim, storage_class)
        except errors.ProvisionerError as error:
            return self._report(claim, error)
        self._kit.pending.set(claim.metadata.uid, "provisioning")
        attempt = self._attempts[claim.metadata.uid] = attempts.Attempt(
            intent,
            begun=self._kit.clock.time(),
            notice=self._kit.clock.call_later(_UNREMARKABLE, lambda: self._kit.say.provisioning(claim)),
        )
        return attempt

    def _end(self, attempt: attempts.Attempt) -> None:
        attempt.notice.cancel()
        del self._attempts[attempt.intent.claim.metadata.uid]

    # The attempt.

    async def _attempt(self, attempt: attempts.Attempt) -> queue.Outcome:
        if attempt.made is None:
            try:
                volume = await self._create(attempt.intent)
                attempt.made = volume, await self._accept(attempt.intent, volume)
            except (errors.ProvisionerError, csiclient.CallError) as error:
                return await self._failed(attempt, error)
        try:
            saved = await self._save(*attempt.made)
        except kube_errors.KubeError as error:
            return self._unsaved(attempt, error)
        return self._succeeded(attempt, saved)

    async def _create(self, intent: requests.Intent) -> model.Volume:
        values = await credentials.read(self._kit.client, intent.secrets.get("provisioner-secret"))
        request = dataclasses.replace(intent.request, secrets=values) if values else intent.request
        return await self._kit.csi.create_volume(request, timeout=self._kit.settings.csi_timeout)

    async def _accept(self, intent: requests.Intent, volume: model.Volume) -> objects.PersistentVolume:
        """The PersistentVolume to save; a volume that is not what was asked for is deleted."""
        try:
            return persistent.build(intent, volume, driver=self._kit.driver.name, identity=self._kit.driver.name)
        except persistent.MisfitError:
            values = await credentials.read(self._kit.client, intent.secrets.get("provisioner-secret"))
            await self._kit.csi.delete_volume(str(volume.id), values, timeout=self._kit.settings.csi_timeout)
            raise

    async def _save(self, _volume: model.Volume, wanted: objects.PersistentVolume) -> objects.PersistentVolume:
        """Write the PersistentVolume; one that is there already must be the very same.

        Raises:
            kube_errors.KubeError: it is not saved; also where another one has its name.
        """
        try:
            return await self._kit.client.create(objects.VOLUMES, wanted)
        except kube_errors.AlreadyExistsError:
            found = await self._kit.client.get(objects.VOLUMES, wanted.metadata.name)
            if not persistent.same_volume(found, wanted):
                raise
            return found

    def _succeeded(self, attempt: attempts.Attempt, saved: objects.PersistentVolume) -> queue.Outcome:
        intent, kit = attempt.intent, self._kit
        uid = intent.claim.metadata.uid
        self._end(attempt)
        labels = (intent.class_name, "")
        kit.metrics.provision_total.labels(*labels).inc()
        kit.metrics.provision_seconds.labels(*labels).observe(kit.clock.time() - attempt.begun)
        if attempt.made is not None:
            kit.say.succeeded(intent, attempt.made[0])
        claim = kit.known.claim(intent.claim.metadata.namespace, intent.claim.metadata.name, uid)
        # One that is bound by now, say while the answer to our write was lost, waits for nothing more.
        if claim is not None and not claim.spec.volume_name:
            self._served.add(uid)
            kit.pending.set(uid, "binding")
            self._saved(intent.claim, saved)
        else:
            kit.pending.clear(uid)
        return queue.done()

    def _unsaved(self, attempt: attempts.Attempt, error: kube_errors.KubeError) -> queue.Outcome:
        intent = attempt.intent
        _log.warning("a volume is not saved yet", claim=intent.claim.metadata.key, pv=intent.pv_name, error=str(error))
        self._kit.say.failed(
            intent.claim, f"the volume was made, but its PersistentVolume {intent.pv_name} cannot be saved: {error}"
        )
        return queue.retry()

    async def _failed(
        self, attempt: attempts.Attempt, error: errors.ProvisionerError | csiclient.CallError
    ) -> queue.Outcome:
        intent, claim = attempt.intent, attempt.intent.claim
        self._kit.metrics.provision_failed.labels(intent.class_name, "").inc()
        state = outcomes.of_error(error, can_reschedule=intent.can_reschedule)
        if state is outcomes.State.IN_BACKGROUND or (state is outcomes.State.NO_CHANGE and attempt.in_background):
            attempt.in_background = True
            return self._wait_for_driver(attempt, error)
        if state is outcomes.State.RESCHEDULE and attempt.in_background:
            # An answer at last; but the claim goes elsewhere only when the same call, asked afresh, says so too.
            attempt.in_background = False
            return queue.retry()
        self._end(attempt)
        outcome = self._report(claim, error)
        if state is outcomes.State.RESCHEDULE:
            self._exhausted(claim.metadata.uid)
            return await self._reschedule(claim, outcome)
        return outcome

    def _wait_for_driver(
        self, attempt: attempts.Attempt, error: errors.ProvisionerError | csiclient.CallError
    ) -> queue.Outcome:
        attempt.tries += 1
        claim = attempt.intent.claim
        text = announce.failure(attempt.intent.class_name, error)
        self._kit.pending.set(claim.metadata.uid, "waiting-for-driver")
        _log.info("the driver has not answered for good", claim=claim.metadata.key, error=str(error))
        ordinary = isinstance(error, csiclient.CallError) and error.code in outcomes.AT_WORK
        if ordinary and attempt.tries < _PATIENCE:
            self._kit.say.waiting(claim, f"still waiting for the driver: {text}")
        else:
            self._kit.say.failed(claim, text)
        return queue.retry()

    def _report(
        self, claim: objects.PersistentVolumeClaim, error: errors.ProvisionerError | csiclient.CallError
    ) -> queue.Outcome:
        """Tell of an attempt that came to nothing, and say when the next one is due."""
        uid = claim.metadata.uid
        if self._kit.known.claim(claim.metadata.namespace, claim.metadata.name, uid) is None:
            self._kit.pending.clear(uid)
            return queue.done()
        _log.warning("a claim cannot be provisioned", claim=claim.metadata.key, error=str(error))
        self._kit.say.failed(claim, announce.failure(claims.class_name(claim), error))
        if outcomes.infeasible(error):
            self._kit.pending.set(uid, "infeasible")
            return queue.retry_after(self._kit.settings.retry_max)
        self._kit.pending.set(uid, outcomes.pending_reason(error))
        return queue.retry()

    async def _reschedule(self, claim: objects.PersistentVolumeClaim, otherwise: queue.Outcome) -> queue.Outcome:
        meta = claim.metadata
        now = self._kit.known.claim(meta.namespace, meta.name, meta.uid)
        node = claims.selected_node(claim)
        if now is None or claims.selected_node(now) != node:
            return queue.done()
        try:
            await reschedule.free(self._kit.client, now)
        except kube_errors.KubeError as error:
            _log.info("a claim is not freed from its node yet", claim=meta.key, node=node, error=str(error))
            return otherwise
        self._kit.say.rescheduled(claim, node, "it has no room for the volume")
        return queue.done()
