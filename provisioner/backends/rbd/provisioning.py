"""Makes and finds volumes by their requests and ids: what a class says becomes an image, and an image a volume."""

import datetime
from collections.abc import Callable

from provisioner import errors, model
from provisioner.backends.rbd import (
    config,
    copies,
    flattening,
    ids,
    making,
    parameters,
    places,
    record,
    room,
    rules,
)


class Volumes:
    """The volumes of one Kubernetes cluster. Thread-safe."""

    def __init__(
        self,
        settings: config.RbdConfig,
        known: places.Places,
        rooms: room.Rooms,
        maker: making.Maker,
        sources: copies.Copies,
        *,
        flattener: flattening.Flattener,
        clock: Callable[[], datetime.datetime],
    ) -> None:
        self._settings = settings
        self._places = known
        self._rooms = rooms
        self._maker = maker
        self._copies = sources
        self._flattener = flattener
        self._clock = clock

    def create(self, request: model.VolumeRequest) -> model.Volume:
        """Make the volume, as `base.Backend.create`; from a snapshot or a volume as a clone, in one step."""
        rules.check_capabilities(request.capabilities, has_source=request.source is not None)
        parsed = parameters.Parameters.parse(request.parameters)
        spot = self._places.of_class(parsed)
        image = ids.image_name(self._settings.instance, request.name)
        found = self._maker.made_before(spot, image)
        if found is None:
            try:
                found = self._make(spot, image, request, parsed)
            except (
                errors.InsufficientCapacityError,
                errors.SizeOutOfRangeError,
                errors.VolumeNotFoundError,
                errors.SnapshotNotFoundError,
            ):
                # A volume that is there needs neither room nor its source.
                found = self._maker.look(spot, image)
                if found is None:
                    raise
        difference = rules.difference(found.record, found.size, request)
        if difference is not None:
            raise errors.VolumeExistsError(
                f"volume {request.name} exists already and differs in {difference}",
                remedy="ask for the same again, or use another name",
            )
        return self.describe(spot, found)

    def find(self, volume_id: model.VolumeId) -> tuple[places.Spot, making.Found]:
        """The volume's place and image.

        Raises:
            errors.VolumeNotFoundError: there is no such volume.
        """
        volume = ids.RbdVolumeId.parse(volume_id.value)
        spot = None if volume is None else self._places.of_id(volume.place)
        found = None if volume is None or spot is None else self._maker.look(spot, volume.image)
        if spot is None or found is None:
            raise errors.VolumeNotFoundError(f"there is no volume {volume_id} here")
        return spot, found

    def look(self, spot: places.Spot, image: str) -> model.Volume | None:
        """The volume that is this image; None where there is none, or its metadata is unreadable."""
        try:
            found = self._maker.look(spot, image)
        except errors.VolumeQuarantinedError:
            return None
        return None if found is None else self.describe(spot, found)

    def describe(self, spot: places.Spot, found: making.Found) -> model.Volume:
        """The volume as CSI knows it."""
        return model.Volume(
            id=model.VolumeId(str(ids.RbdVolumeId(spot.id, found.image))),
            size=found.size,
            context=rules.node_context(found.record, spot.cluster_id, spot.place, found.image),
            source=record.read_source(found.record.source),
        )

    def _make(
        self, spot: places.Spot, image: str, request: model.VolumeRequest, parsed: parameters.Parameters
    ) -> making.Found:
        copied = self._copies.of(spot, request.source)
        least = copied.origin.size if copied else 0
        size = rules.choose_size(request.size, default=self._settings.default_size, least=least)
        self._rooms.check(spot, parsed.data_pool, size - least)
        retention = self._settings.trash_retention if parsed.trash_retention is None else parsed.trash_retention
        wanted = record.Record(
            name=request.name,
            size=size,
            capabilities=record.describe(request.capabilities),
            parameters=parameters.own(request.parameters),
            source=record.source_text(request.source),
            created=self._clock(),
            claim=parsed.claim,
            volume=parsed.volume,
            depth=copied.depth if copied else 0,
            on_delete=parsed.on_delete,
            retention=int(retention.total_seconds()),
            formatted=copied.formatted if copied else "",
        )
        found = self._maker.make(spot, image, wanted, parsed.layout, copied.origin if copied else None)
        if copied is not None and copied.must_flatten:
            self._flattener.want(spot.id, image)
        return found
