"""Brings together what a request needs of the cluster: the class, and where the volume must be reachable."""

from provisioner import csiclient, model
from provisioner.controllers import claims, options, outcomes, requests, topology, world
from provisioner.kube import objects


class Resolver:
    """Makes intents.

    Args:
        own_place: where this process's node stands (per-node mode); None elsewhere.
    """

    def __init__(
        self,
        known: world.World,
        driver: csiclient.Driver,
        settings: options.Options,
        own_place: model.Topology | None = None,
    ) -> None:
        self._known = known
        self._driver = driver
        self._settings = settings
        self._own_place = own_place

    def intent(self, claim: objects.PersistentVolumeClaim, storage_class: objects.StorageClass) -> requests.Intent:
        """The request of a claim that is to be provisioned now.

        Raises:
            outcomes.NotReadyError: a node's place is not known yet.
            errors.InvalidRequestError: the class or the claim asks for what cannot be.
        """
        return requests.resolve(
            claim,
            storage_class,
            driver=self._driver,
            accessibility=self._accessibility(claim, storage_class),
            settings=self._settings,
        )

    def _accessibility(
        self, claim: objects.PersistentVolumeClaim, storage_class: objects.StorageClass
    ) -> model.Accessibility:
        if not self._driver.supports_topology:
            return model.Accessibility()
        limits = topology.allowed(storage_class.allowed_topologies)
        node = claims.selected_node(claim)
        if not node:
            return topology.anywhere(claim.metadata.name, limits, self._known.segments())
        place = self._own_place or self._known.segment(node)
        if place is None:
            raise outcomes.NotReadyError(
                f"the driver is not registered on the selected node {node}, or the node has no topology labels yet",
                remedy="see whether the driver's Pod runs on that node",
            )
        return topology.at_node(place, limits, self._known.segments(), strict=self._settings.strict_topology)
