"""Gives volumes to nodes, and keeps a single writer single.

Which nodes have a volume is in its image's metadata; who has it open is what Ceph says. A node that died is not
believed dead: its lock is broken, and its volume given to another, only after it has been fenced, so that it can write
no more.
"""

import contextlib
import dataclasses
import json
import secrets
from collections.abc import Callable, Iterator, Mapping

import structlog

from provisioner import errors, model
from provisioner.backends.rbd import making, names, places, rules
from provisioner.backends.rbd.client import api

_LOCK_SECONDS = 60
_FENCE_SECONDS = 24 * 3600

_log = structlog.get_logger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """What a node is to have.

    Attributes:
        shared: other nodes may write at the same time.
    """

    node: str
    read_only: bool
    shared: bool

    @classmethod
    def of(cls, node: str, capability: model.Capability, *, read_only: bool) -> "Asked":
        """What ControllerPublishVolume asks for."""
        reads = capability.access_mode in (
            model.AccessMode.MULTI_NODE_READER_ONLY,
            model.AccessMode.SINGLE_NODE_READER_ONLY,
        )
        return cls(node, read_only or reads, rules.is_shared(capability))

    def conflicts(self, nodes: Mapping[str, str]) -> list[str]:
        """The nodes that must let go of the volume first."""
        others = sorted(node for node in nodes if node != self.node)
        if self.shared:
            return []
        return [node for node in others if not self.read_only or nodes[node] == "rw"]


class Publisher:
    """Publishes the volumes of one Kubernetes cluster.

    Args:
        is_out_of_service: whether an administrator declared that the node is off (in Kubernetes the taint
            `node.kubernetes.io/out-of-service`), so that it may be fenced.
    """

    def __init__(self, maker: making.Maker, *, is_out_of_service: Callable[[str], bool]) -> None:
        self._maker = maker
        self._is_out_of_service = is_out_of_service

    def publish(self, spot: places.Spot, image: str, asked: Asked) -> None:
        """Let the node have the image. Idempotent.

        Raises:
            errors.VolumeNotFoundError: there is no such volume.
            errors.VolumeInUseError: another node has it, or somebody has it open.
            errors.VolumeExistsError: the node has it already, read-only or not as is not asked for now.
            errors.OperationPendingError: another process publishes it.
        """
        with _locked(spot.images, image):
            found = self._look(spot, image)
            wanted = "ro" if asked.read_only else "rw"
            had = found.record.nodes.get(asked.node, wanted)
            if had != wanted:
                raise errors.VolumeExistsError(
                    f"node {asked.node} has image {image} in {spot} already, as {had}, and {wanted} is asked for",
                    remedy="detach it first",
                )
            if asked.node in found.record.nodes:
                return
            nodes = dict(found.record.nodes)
            for node in asked.conflicts(nodes):
                self._take_from(spot, image, node)
                del nodes[node]
            if not nodes and not asked.read_only and not asked.shared:
                self._refuse_watched(spot, image)
            nodes[asked.node] = wanted
            spot.images.set_metadata(found.id, {names.NODE: json.dumps(nodes, sort_keys=True)})

    def unpublish(self, spot: places.Spot, image: str, node: str) -> None:
        """Forget that the node, or every node where it is empty, has the image. Idempotent."""
        with _locked(spot.images, image):
            found = self._maker.look(spot, image)
            if found is None:
                return
            nodes = {each: how for each, how in found.record.nodes.items() if node and each != node}
            if nodes != found.record.nodes:
                spot.images.set_metadata(found.id, {names.NODE: json.dumps(nodes, sort_keys=True) if nodes else ""})

    def _look(self, spot: places.Spot, image: str) -> making.Found:
        found = self._maker.look(spot, image)
        if found is None:
            raise errors.VolumeNotFoundError(f"there is no volume {image} in {spot}")
        return found

    def _take_from(self, spot: places.Spot, image: str, node: str) -> None:
        """Take the image from a node that can write no more.

        Raises:
            errors.VolumeInUseError: the node may still write.
        """
        holder = spot.images.lock_owner(image)
        fenced = holder is not None and holder.address in spot.cluster.fenced()
        if holder is not None and not fenced and self._is_out_of_service(node):
            spot.cluster.fence(holder.address, seconds=_FENCE_SECONDS)
            fenced = True
        if holder is not None and fenced:
            _log.warning("lock of a fenced node is broken", place=str(spot), image=image, node=node)
            spot.images.break_lock(image, holder)
            return
        if holder is None and self._is_out_of_service(node) and not spot.images.watchers(image):
            return
        address = _address(spot.images, image, holder)
        raise errors.VolumeInUseError(
            f"node {node} has image {image} in {spot}" + (f", at {address}" if address else ""),
            remedy="it is free when the Pod there has ended and the volume is detached; for a node that is off for "
            "good, taint it node.kubernetes.io/out-of-service",
        )

    def _refuse_watched(self, spot: places.Spot, image: str) -> None:
        fenced = spot.cluster.fenced()
        for watcher in spot.images.watchers(image):
            if watcher.address not in fenced:
                raise errors.VolumeInUseError(
                    f"image {image} in {spot} is open at {watcher.address}, on a node that it is not published to",
                    remedy="end what has it open there; after a crash that takes half a minute",
                )


@contextlib.contextmanager
def _locked(images: api.Images, image: str) -> Iterator[None]:
    """The right to change the nodes of an image, among all processes and threads."""
    item, cookie = f"publishing.{image}", secrets.token_hex(8)
    images.lock(item, cookie=cookie, seconds=_LOCK_SECONDS)
    try:
        yield
    finally:
        images.unlock(item, cookie=cookie)


def _address(images: api.Images, image: str, holder: api.LockOwner | None) -> str:
    if holder is not None:
        return holder.address
    watchers = images.watchers(image)
    return watchers[0].address if watchers else ""
