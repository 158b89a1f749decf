"""Frees claims whose selected node is gone for good: nobody else would, and their Pods would wait for ever.

A missing CSINode gives the hint, since it goes with its Node; only a live read that finds no Node is proof. In per-node
mode the gone node's own process cannot do it, so every process may: the claim is freed only in the state in which it
was seen, so that the second one changes nothing.
"""

import hashlib
from collections.abc import Callable

import structlog

from provisioner.controllers import claims, reschedule, tools
from provisioner.kube import errors as kube_errors
from provisioner.kube import objects, queue

# A node that is being set up is there before its CSINode; and who is first is spread out, to spare the API server.
_FIRST_LOOK = 2.0
_SPREAD = 3.0
_NEXT_LOOK = 30.0
_AT_WORK = 5.0

_log = structlog.get_logger(__name__)


class Vacator:
    """Frees claims from nodes that are gone.

    Args:
        at_work_for: whether the driver may be making a volume for the claim of this uid: then it is left alone.
    """

    def __init__(self, kit: tools.Tools, at_work_for: Callable[[str], bool]) -> None:
        self._kit = kit
        self._at_work_for = at_work_for
        self.queue = kit.queue("vacate", self.handle)

    def consider(self, claim: objects.PersistentVolumeClaim) -> None:
        """Look at a claim that is new or has changed, or whose node may be gone; returns at once."""
        if self._is_stranded(claim):
            self.queue.add_after(f"{claim.metadata.key}/{claim.metadata.uid}", _FIRST_LOOK + self._turn(claim))

    def _is_stranded(self, claim: objects.PersistentVolumeClaim) -> bool:
        node = claims.selected_node(claim)
        if not node or claim.spec.volume_name or self._kit.known.csi_nodes.get(node) is not None:
            return False
        storage_class = self._kit.known.class_of(claim)
        return storage_class is not None and storage_class.provisioner == self._kit.driver.name

    def _turn(self, claim: objects.PersistentVolumeClaim) -> float:
        mark = hashlib.blake2b(f"{claim.metadata.uid}/{self._kit.settings.node_name}".encode(), digest_size=2)
        return _SPREAD * int.from_bytes(mark.digest(), "big") / 0xFFFF

    async def handle(self, key: str) -> queue.Outcome:
        """Work on one claim, as the queue asks."""
        namespace, name, uid = key.split("/")
        claim = self._kit.known.claim(namespace, name, uid)
        if claim is None or not self._is_stranded(claim):
            return queue.done()
        node = claims.selected_node(claim)
        if self._at_work_for(uid):
            return queue.retry_after(_AT_WORK)
        try:
            if await self._exists(node):
                return queue.retry_after(_NEXT_LOOK)
            await reschedule.free(self._kit.client, claim)
        except kube_errors.KubeError as error:
            _log.info("a claim is not freed from its node yet", claim=claim.metadata.key, node=node, error=str(error))
            return queue.retry()
        self._kit.say.rescheduled(claim, node, "the node does not exist any more")
        return queue.done()

    async def _exists(self, node: str) -> bool:
        try:
            await self._kit.client.get(objects.NODES, node)
        except kube_errors.NotFoundError:
            return False
        return True
