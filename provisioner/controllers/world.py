"""What this process knows of the cluster: its caches, and the questions that the controllers ask of them.

The caches follow the API server with a delay. Whatever cannot be undone is therefore asked again, live, before it is
done; the questions here are for what a later look puts right.
"""

import dataclasses
from collections.abc import Iterable, Iterator

from provisioner import model
from provisioner.controllers import claims as rules
from provisioner.controllers import topology
from provisioner.kube import cache, objects

_BY_CLASS = "class"
_BY_CLAIM = "claim"
_UNCLAIMED = "unclaimed"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The caches of one process.

    Attributes:
        nodes: None in per-node mode, where the driver itself says where its node stands.
        attachments: None where the driver attaches nothing.
    """

    driver: str
    claims: cache.Cache[objects.PersistentVolumeClaim]
    volumes: cache.Cache[objects.PersistentVolume]
    classes: cache.Cache[objects.StorageClass]
    csi_nodes: cache.Cache[objects.CsiNode]
    nodes: cache.Cache[objects.Node] | None = None
    attachments: cache.Cache[objects.VolumeAttachment] | None = None

    def add_indexes(self) -> None:
        """Prepare the look-ups; once, before the caches run."""
        self.claims.add_index(_BY_CLASS, lambda claim: (rules.class_name(claim),))
        self.volumes.add_index(_BY_CLAIM, _claim_uids)
        self.volumes.add_index(_UNCLAIMED, _unclaimed)

    def claim(self, namespace: str, name: str, uid: str) -> objects.PersistentVolumeClaim | None:
        """The claim of this uid; None where it is gone, or a namesake has its place."""
        found = self.claims.get(f"{namespace}/{name}")
        return found if found is not None and found.metadata.uid == uid else None

    def claims_of_class(self, class_name: str) -> Iterable[objects.PersistentVolumeClaim]:
        """The claims that name a class."""
        return self.claims.by_index(_BY_CLASS, class_name)

    def class_of(self, claim: objects.PersistentVolumeClaim) -> objects.StorageClass | None:
        """The class that a claim names."""
        return self.classes.get(rules.class_name(claim))

    def volumes_of_claim(self, uid: str) -> Iterable[objects.PersistentVolume]:
        """The volumes that name the claim of this uid as theirs."""
        return self.volumes.by_index(_BY_CLAIM, uid)

    def unclaimed_like(self, claim: objects.PersistentVolumeClaim) -> Iterable[objects.PersistentVolume]:
        """The volumes of the claim's class and volume mode that no claim has."""
        return self.volumes.by_index(_UNCLAIMED, f"{rules.class_name(claim)} {claim.spec.volume_mode}")

    def judge(self, claim: objects.PersistentVolumeClaim, view: rules.Viewpoint) -> rules.Verdict:
        """What to do with a claim, as far as is known."""
        return rules.judge(claim, self.class_of(claim), view, self.unclaimed_like(claim))

    def segment(self, node_name: str) -> model.Topology | None:
        """Where a node stands for our driver; None where that is not known (yet)."""
        csi_node = self.csi_nodes.get(node_name)
        node = self.nodes.get(node_name) if self.nodes is not None else None
        keys = topology.keys_of(csi_node, self.driver) if csi_node is not None else None
        if keys is None or node is None:
            return None
        return topology.segment(keys, node.metadata.labels)

    def segments(self) -> Iterator[model.Topology]:
        """Where all nodes with our driver stand."""
        for csi_node in self.csi_nodes.values():
            place = self.segment(csi_node.metadata.name)
            if place is not None and place.segments:
                yield place

    def driver_nodes(self) -> Iterator[str]:
        """The nodes on which our driver is registered."""
        for csi_node in self.csi_nodes.values():
            if topology.keys_of(csi_node, self.driver) is not None:
                yield csi_node.metadata.name


def _claim_uids(volume: objects.PersistentVolume) -> tuple[str, ...]:
    reference = volume.spec.claim_ref
    return (reference.uid,) if reference is not None and reference.uid else ()


def _unclaimed(volume: objects.PersistentVolume) -> tuple[str, ...]:
    if _claim_uids(volume):
        return ()
    return (f"{volume.spec.storage_class_name} {volume.spec.volume_mode}",)
