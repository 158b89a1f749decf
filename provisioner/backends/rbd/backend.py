"""The RBD backend's controller half: `base.Backend`, with growth, snapshots, publication and conditions."""

import datetime
import time
from collections.abc import Callable, Sequence
from concurrent import futures

from provisioner import errors, metrics, model
from provisioner.backends import base
from provisioner.backends import inventory as base_inventory
from provisioner.backends.rbd import (
    clusters,
    config,
    copies,
    deletion,
    flattening,
    ids,
    listing,
    making,
    names,
    places,
    provisioning,
    publication,
    room,
    rules,
    snapshots,
    trash,
)
from provisioner.backends.rbd import inventory as rbd_inventory
from provisioner.backends.rbd import parameters as class_parameters

_READERS = 8


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class RbdBackend:
    """Volumes that are images of Ceph pools. Thread-safe; several processes may use the same pools.

    Args:
        settings: which clusters there are, and how they are used.
        connect: gives the connection for these credentials, the same one each time.
        measured: told of each pool's bytes, its trash, and what was purged.
        has_node: whether there is a node of this name to publish to.
        is_out_of_service: whether an administrator declared that this node is off, so that it may be fenced.
        clock: the time, aware of its zone.
        steps: told each step that was reached, so that a test can stop the process there.
    """

    def __init__(
        self,
        settings: config.RbdConfig,
        connect: places.Connect,
        measured: metrics.Metrics,
        *,
        has_node: Callable[[str], bool] = lambda _node: True,
        is_out_of_service: Callable[[str], bool] = lambda _node: False,
        clock: Callable[[], datetime.datetime] = _now,
        steps: Callable[[str], None] = lambda _step: None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._has_node = has_node
        self._places = places.Places(clusters.Clusters(settings.clusters), connect)
        self._rooms = room.Rooms(measured)
        self._maker = making.Maker(settings.instance, clock=clock, steps=steps)
        self._deleter = deletion.Deleter(settings.instance, self._maker, clock=clock, steps=steps)
        self._snapshots = snapshots.Snapshots(
            settings.instance, self._maker, self._deleter, limit=settings.snapshot_limit, clock=clock, steps=steps
        )
        self._flattener = flattening.Flattener()
        sources = copies.Copies(settings, self._places, self._maker, self._snapshots, self._flattener)
        self._volumes = provisioning.Volumes(
            settings, self._places, self._rooms, self._maker, sources, flattener=self._flattener, clock=clock
        )
        self._publisher = publication.Publisher(self._maker, is_out_of_service=is_out_of_service)
        self._trash = trash.Trash(settings.instance, measured, clock=clock)
        self._readers = futures.ThreadPoolExecutor(_READERS, thread_name_prefix="rbd-list")

    @property
    def features(self) -> base.Features:
        """Everything but topology: every node reaches every image."""
        return base.Features(
            expansion=True,
            snapshots=True,
            clones=True,
            publication=True,
            devices=True,
            condition=True,
            capacity=True,
            single_node_multi_writer=True,
        )

    def close(self) -> None:
        """End the threads that read listings; the connections are whoever's made them."""
        self._readers.shutdown()

    def probe(self) -> None:
        """Ask every cluster, as `base.Backend.probe`; one that fails is an error only if no other works."""
        self._places.check()

    def purge_expired(self, *, budget: float = 20.0) -> int:
        """Remove deleted images whose retention is over, and flatten clones that have too many ancestors.

        To be called every minute, and at the start. What is not done in time is done next time.

        Args:
            budget: seconds after which nothing more is begun.

        Returns:
            How many deleted images were removed.
        """
        deadline = time.monotonic() + budget
        purged = 0
        for spot in self._places.usable():
            try:
                purged += self._trash.purge(spot, may_go_on=lambda: time.monotonic() < deadline)
            except errors.ProvisionerError as error:
                self._places.complain(spot, error)
        self._flattener.run(self._places.of_id, may_go_on=lambda: time.monotonic() < deadline)
        return purged

    def create(self, request: model.VolumeRequest) -> model.Volume:
        """Make the volume, as `base.Backend.create`."""
        return self._volumes.create(request)

    def delete(self, volume_id: model.VolumeId) -> None:
        """Move the image to the trash, as `base.Backend.delete`.

        Raises:
            errors.BackendUnavailableError: also where its cluster or pool is not known here: it may exist there.
        """
        volume = ids.RbdVolumeId.parse(volume_id.value)
        if volume is not None:
            self._deleter.delete(self._reachable(volume.place, f"volume {volume_id}"), volume.image)

    def get(self, volume_id: model.VolumeId) -> model.Volume:
        """The volume, as `base.Backend.get`."""
        spot, found = self._volumes.find(volume_id)
        return self._volumes.describe(spot, found)

    def list(self, *, after: model.VolumeId | None, limit: int) -> Sequence[model.Volume]:
        """A page of volumes over all places, as `base.Backend.list`."""
        listed = listing.volumes(
            self._places.all(), self._settings.instance, after="" if after is None else after.value
        )
        return listing.read(listed, self._volumes.look, limit=limit, readers=self._readers)

    def validate(
        self, volume_id: model.VolumeId, capabilities: Sequence[model.Capability], parameters: dict[str, str]
    ) -> str | None:
        """Why the volume cannot be used so, as `base.Backend.validate`."""
        _, found = self._volumes.find(volume_id)
        return rules.objection(found.record, capabilities, parameters)

    def capacity(
        self,
        *,
        capabilities: Sequence[model.Capability],
        parameters: dict[str, str],
        topology: model.Topology | None,  # noqa: ARG002  (every place reaches every pool)
    ) -> model.Available:
        """The room of the class's pool, or of all where no class is named, as `base.Backend.capacity`."""
        parsed = class_parameters.Parameters.parse(parameters)
        if any(rules.refusal(wanted) for wanted in capabilities):
            return model.Available(total=0, largest=0)
        spots = [self._places.of_class(parsed)] if parsed.pool else self._places.all()
        pools = {(spot.cluster_id, spot.place.pool): spot for spot in spots}
        return room.as_answer([self._rooms.available(spot, parsed.data_pool) or 0 for spot in pools.values()])

    def expand(self, volume_id: model.VolumeId, size: model.SizeRange) -> model.Volume:
        """Grow the image, as `base.Expansion.expand`; it never shrinks."""
        spot, found = self._volumes.find(volume_id)
        wanted = max(found.size, rules.choose_size(size, default=1))
        if size.limit and found.size > size.limit:
            raise errors.SizeOutOfRangeError(
                f"volume {volume_id} has {found.size} bytes, more than the {size.limit} asked for",
                remedy="a volume cannot shrink",
            )
        if wanted > found.size:
            data_pool = found.record.parameters.get("dataPool", "")
            self._rooms.check(spot, data_pool, wanted - found.size)
            spot.images.resize(found.image, wanted)
            spot.images.set_metadata(found.id, {names.SIZE: str(wanted)})
        return self._volumes.describe(
            spot, making.Found(image=found.image, id=found.id, size=wanted, record=found.record)
        )

    def create_snapshot(self, request: model.SnapshotRequest) -> model.Snapshot:
        """Take the snapshot, as `base.Snapshots.create_snapshot`.

        Raises:
            errors.InvalidRequestError: the class has parameters of its own; there are none.
        """
        snapshots.check_parameters(request.parameters)
        volume = ids.RbdVolumeId.parse(request.source.value)
        spot = None if volume is None else self._places.of_id(volume.place)
        if volume is None or spot is None:
            raise errors.VolumeNotFoundError(f"there is no volume {request.source} here")
        return self._snapshots.create(spot, volume.image, request.name)

    def delete_snapshot(self, snapshot_id: model.SnapshotId) -> None:
        """Remove the snapshot, as `base.Snapshots.delete_snapshot`."""
        wanted = ids.RbdSnapshotId.parse(snapshot_id.value)
        if wanted is not None:
            self._snapshots.delete(self._reachable(wanted.place, f"snapshot {snapshot_id}"), wanted)

    def get_snapshot(self, snapshot_id: model.SnapshotId) -> model.Snapshot:
        """The snapshot, as `base.Snapshots.get_snapshot`."""
        wanted = ids.RbdSnapshotId.parse(snapshot_id.value)
        spot = None if wanted is None else self._places.of_id(wanted.place)
        if wanted is None or spot is None:
            raise errors.SnapshotNotFoundError(f"there is no snapshot {snapshot_id} here")
        return self._snapshots.get(spot, wanted)

    def list_snapshots(
        self, *, source: model.VolumeId | None, after: model.SnapshotId | None, limit: int
    ) -> Sequence[model.Snapshot]:
        """A page of snapshots, as `base.Snapshots.list_snapshots`."""
        spots = self._places.all()
        image = None
        if source is not None:
            volume = ids.RbdVolumeId.parse(source.value)
            spot = None if volume is None else self._places.of_id(volume.place)
            if volume is None or spot is None:
                return []
            spots, image = [spot], volume.image
        return self._snapshots.page(spots, source=image, after="" if after is None else after.value, limit=limit)

    def publish(
        self, volume_id: model.VolumeId, node: str, capability: model.Capability, *, read_only: bool
    ) -> dict[str, str]:
        """Let the node have the volume, as `base.Publication.publish`; there is nothing that it must be told.

        Raises:
            errors.NodeNotFoundError: there is no such node.
            errors.InvalidRequestError: an image cannot be used so.
        """
        spot, found = self._volumes.find(volume_id)
        rules.check_capabilities([capability], has_source=True)
        if not self._has_node(node):
            raise errors.NodeNotFoundError(f"there is no node {node}")
        self._publisher.publish(spot, found.image, publication.Asked.of(node, capability, read_only=read_only))
        return {}

    def unpublish(self, volume_id: model.VolumeId, node: str) -> None:
        """Take the volume from the node, as `base.Publication.unpublish`."""
        volume = ids.RbdVolumeId.parse(volume_id.value)
        if volume is not None:
            spot = self._reachable(volume.place, f"volume {volume_id}")
            self._publisher.unpublish(spot, volume.image, node)

    def condition(self, volume_id: model.VolumeId) -> model.Condition:
        """What is wrong with the volume, as `base.Conditions.condition`: its pool may be full."""
        spot, found = self._volumes.find(volume_id)
        data_pool = found.record.parameters.get("dataPool", "")
        if self._rooms.available(spot, data_pool) == 0:
            return model.Condition(
                abnormal=True, message=f"pool {data_pool or spot.place.pool} is full: whoever writes to it waits"
            )
        return model.HEALTHY

    def inventory(self) -> base_inventory.Inventory:
        """What the pools hold, for people."""
        return rbd_inventory.RbdInventory(self._settings.instance, self._places, self._trash)

    def _reachable(self, place: ids.PlaceId, what: str) -> places.Spot:
        spot = self._places.of_id(place)
        if spot is None:
            raise errors.BackendUnavailableError(
                f"{what} is of a cluster, pool or namespace that is not known here",
                remedy="add its cluster to the clusters file; if that is lost for good, remove the PersistentVolume "
                "by hand",
            )
        return spot
