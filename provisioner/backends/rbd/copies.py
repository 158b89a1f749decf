"""What a new volume is copied from: a snapshot, or another volume, and how deep the copy would stand."""

import dataclasses

from provisioner import errors, model
from provisioner.backends import base
from provisioner.backends.rbd import config, flattening, ids, making, places, record, snapshots


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """The source of a new volume.

    Attributes:
        depth: images between the new one and its last ancestor.
        formatted: what is known of the source's filesystem.
        must_flatten: the new image has too many ancestors, or its source too many snapshots.
    """

    origin: making.Origin
    depth: int
    formatted: str
    must_flatten: bool


class Copies:
    """Finds the source of a volume, and keeps the ancestors of images few."""

    def __init__(
        self,
        settings: config.RbdConfig,
        known: places.Places,
        maker: making.Maker,
        taken: snapshots.Snapshots,
        flattener: flattening.Flattener,
    ) -> None:
        self._settings = settings
        self._places = known
        self._maker = maker
        self._snapshots = taken
        self._flattener = flattener

    def of(self, spot: places.Spot, source: model.SnapshotId | model.VolumeId | None) -> Copied | None:
        """What a volume at `spot` is copied from; None where from nothing.

        Raises:
            errors.SnapshotNotFoundError: there is no such snapshot.
            errors.VolumeNotFoundError: there is no such volume.
            errors.InvalidRequestError: it is in another cluster.
            errors.InsufficientCapacityError: the source has as many snapshots as an image may have.
            errors.OperationPendingError: the source stands too deep, and is flattened first.
        """
        if source is None:
            return None
        if isinstance(source, model.SnapshotId):
            return self._of_snapshot(spot, source)
        return self._of_volume(spot, source)

    def _of_snapshot(self, spot: places.Spot, source: model.SnapshotId) -> Copied:
        wanted = ids.RbdSnapshotId.parse(source.value)
        there = None if wanted is None else self._places.of_id(wanted.place)
        if wanted is None or there is None:
            raise errors.SnapshotNotFoundError(f"there is no snapshot {source} here")
        origin, of = self._snapshots.origin(there, wanted)
        return self._copied(spot, there, origin, of, snapshots_now=0)

    def _of_volume(self, spot: places.Spot, source: model.VolumeId) -> Copied:
        wanted = ids.RbdVolumeId.parse(source.value)
        there = None if wanted is None else self._places.of_id(wanted.place)
        found = None if wanted is None or there is None else self._maker.look(there, wanted.image)
        if there is None or found is None:
            raise errors.VolumeNotFoundError(f"there is no volume {source} here")
        origin = making.Origin(images=there.images, image=found.image, snapshot="", size=found.size)
        count = len(there.images.snapshots(found.image))
        if count >= self._settings.snapshot_limit:
            raise errors.InsufficientCapacityError(
                f"volume {source} has {count} snapshots and clones, and may have {self._settings.snapshot_limit}",
                remedy="delete some; its clones are flattened in the background",
            )
        return self._copied(spot, there, origin, found.record, snapshots_now=count)

    def _copied(
        self, spot: places.Spot, there: places.Spot, origin: making.Origin, of: record.Record, *, snapshots_now: int
    ) -> Copied:
        if there.cluster_id != spot.cluster_id:
            raise errors.InvalidRequestError(
                f"the source is in cluster {there.cluster_id}, and the volume would be in {spot.cluster_id}",
                remedy="use a StorageClass of the source's cluster",
            )
        depth = of.depth + 1
        if depth > 2 * self._settings.depth_limit:
            self._flattener.want(there.id, origin.image)
            raise errors.OperationPendingError(
                f"image {origin.image} in {there} has {of.depth} ancestors, and is flattened first",
                remedy="call again later",
            )
        return Copied(
            origin=origin,
            depth=depth,
            # What a mkfs left that was going on then was never used, and is not to be taken for that later either.
            formatted=of.formatted if of.formatted == base.Formatted.DONE.value else "",
            must_flatten=depth >= self._settings.depth_limit or snapshots_now >= self._settings.snapshot_limit // 2,
        )
