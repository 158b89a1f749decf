"""Takes claims that may go to any node, where each node has a process of its own and none of them leads.

All rank themselves for a claim by the same hash. The first takes it when the binder has asked for its volume; each
next one waits a step longer, and takes it if it is still free, so that a node that is down or full holds nothing up
for long. Taking a claim is writing the selected node into it, in the very state in which it was seen: only one can
succeed. The claim then goes the way of every claim with a selected node.
"""

import hashlib
from collections.abc import Iterable, Sequence

import structlog

from provisioner import csiclient, model
from provisioner.controllers import announce, candidates, claims, names, reschedule, tools, topology
from provisioner.kube import errors as kube_errors
from provisioner.kube import objects, queue

# A node that had no room for a claim looks at it again after so many seconds.
_FULL = 60.0

_log = structlog.get_logger(__name__)


def ranked(uid: str, nodes: Iterable[str]) -> Sequence[str]:
    """The nodes in the order in which they may take the claim of this uid: the same wherever it is computed."""
    return sorted(nodes, key=lambda node: hashlib.blake2b(f"{uid}/{node}".encode(), digest_size=8).digest())


class Assigner:
    """Takes claims for this node.

    Args:
        own_place: where this node stands; None where the driver knows no topology.
    """

    def __init__(self, kit: tools.Tools, view: claims.Viewpoint, own_place: model.Topology | None) -> None:
        self._kit = kit
        self._view = view
        self._own_place = own_place
        self._candidates = candidates.Candidates(kit)
        self._first_seen: dict[str, float] = {}
        self._full_until: dict[str, float] = {}
        self.queue = kit.queue("assign", self.handle)

    def consider(self, claim: objects.PersistentVolumeClaim) -> None:
        """Look at a claim that is new or has changed; returns at once."""
        if self._kit.known.judge(claim, self._view).step is claims.Step.ASSIGN:
            self._first_seen.setdefault(claim.metadata.uid, self._kit.clock.time())
            self.queue.add(f"{claim.metadata.key}/{claim.metadata.uid}")
        else:
            self._first_seen.pop(claim.metadata.uid, None)

    def gone(self, claim: objects.PersistentVolumeClaim) -> None:
        """A claim was deleted or bound."""
        self._first_seen.pop(claim.metadata.uid, None)
        self._full_until.pop(claim.metadata.uid, None)

    def exhausted(self, uid: str) -> None:
        """The driver had no room for this claim here: others go first for a while."""
        self._full_until[uid] = self._kit.clock.time() + _FULL

    async def handle(self, key: str) -> queue.Outcome:
        """Work on one claim, as the queue asks."""
        namespace, name, uid = key.split("/")
        claim = self._kit.known.claim(namespace, name, uid)
        storage_class = self._kit.known.class_of(claim) if claim is not None else None
        if claim is None or storage_class is None:
            return queue.done()
        if self._kit.known.judge(claim, self._view).step is not claims.Step.ASSIGN:
            return queue.done()
        if not self._is_allowed(storage_class):
            return queue.done()
        order = ranked(uid, await self._candidates.of(storage_class))
        wait = self._wait(uid, order)
        if wait > 0:
            return queue.retry_after(wait)
        return await self._take(claim, storage_class, leads=order[0] == self._view.node_name)

    def _is_allowed(self, storage_class: objects.StorageClass) -> bool:
        limits = topology.allowed(storage_class.allowed_topologies)
        place = self._own_place
        return not limits or (place is not None and any(place.within(limit) for limit in limits))

    def _wait(self, uid: str, order: Sequence[str]) -> float:
        """The seconds until it is this node's turn."""
        now, step = self._kit.clock.time(), self._kit.settings.assign_step
        if self._view.node_name not in order:
            # Our own registration, or our topology label, has not been seen yet.
            return step
        turn = self._first_seen.get(uid, now) + order.index(self._view.node_name) * step
        return max(turn, self._full_until.get(uid, now)) - now

    async def _take(
        self, claim: objects.PersistentVolumeClaim, storage_class: objects.StorageClass, *, leads: bool
    ) -> queue.Outcome:
        try:
            if not await self._has_room(claim, storage_class):
                self.exhausted(claim.metadata.uid)
                if leads:
                    self._kit.say.failed(
                        claim, f"node {self._view.node_name} has no room for the claim; the next node is asked"
                    )
                return queue.retry_after(_FULL)
            await reschedule.select(self._kit.client, claim, self._view.node_name)
        except kube_errors.ConflictError:
            return queue.retry_after(self._kit.settings.assign_step)
        except (kube_errors.KubeError, csiclient.CallError) as error:
            _log.warning("a claim cannot be taken", claim=claim.metadata.key, error=str(error))
            if leads and isinstance(error, csiclient.CallError):
                self._kit.say.failed(claim, announce.failure(claims.class_name(claim), error))
            return queue.retry()
        return queue.done()

    async def _has_room(self, claim: objects.PersistentVolumeClaim, storage_class: objects.StorageClass) -> bool:
        if names.GET_CAPACITY not in self._kit.driver.controller_capabilities:
            return True
        room = await self._kit.csi.get_capacity(
            parameters=storage_class.parameters,
            capability=None,
            topology=self._own_place,
            timeout=self._kit.settings.csi_timeout,
        )
        return room.largest >= claims.requested_bytes(claim)
