"""The directory backend: `base.Backend` and `base.NodeBackend` over one or more pools."""

import datetime
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from provisioner import errors, metrics, model
from provisioner.backends import base
from provisioner.backends.directory import (
    config,
    ids,
    inventory,
    making,
    parameters,
    placement,
    pool,
    records,
    rules,
    trash,
    usage,
)

_ENFORCEMENT = "none"
"""What a plain directory does to keep a volume within its size."""


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class DirectoryBackend:
    """Volumes that are directories. Thread-safe; several processes may use the same pools.

    Where there are several pools, the one with the most room is filled first. A pool that cannot be used now is passed
    over; only volumes that lie there, and classes that name it, wait for it.

    Args:
        settings: the pools and how they are filled.
        measured: told of each pool's bytes and quarantined volumes.
        clock: the time, aware of its zone.
        steps: told each step that was reached, so that a test can stop the process there.
    """

    def __init__(
        self,
        settings: config.DirectoryConfig,
        measured: metrics.Metrics,
        *,
        clock: Callable[[], datetime.datetime] = _now,
        steps: Callable[[str], None] = lambda _step: None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._meter = usage.Meter()
        self._places = placement.Places(
            placement.Place(
                pool=made,
                maker=making.Maker(made, shared=settings.node_name is None, steps=steps),
                trash=trash.Trash(made, retention=settings.trash_retention, clock=clock, steps=steps),
            )
            for made in (pool.Pool(name, settings, measured=measured, clock=clock) for name in settings.pools)
        )

    @property
    def features(self) -> base.Features:
        """Topology where the pools are one node's own; the rest always."""
        return base.Features(topology=not self._shared, capacity=True, single_node_multi_writer=True)

    def initialise(self) -> None:
        """Make each pool whose directory is empty, or missing in an existing parent. Only when told so.

        Raises:
            errors.BackendUnavailableError: a directory holds something else, or cannot be written; the pools in other
                directories were made.
        """
        failures = []
        for place in self._places.all():
            try:
                place.pool.initialise()
            except errors.ProvisionerError as error:
                failures.append(error)
        if failures:
            raise errors.BackendUnavailableError(
                "; ".join(failure.message for failure in failures), remedy=failures[0].remedy
            )

    def inventory(self) -> inventory.DirectoryInventory:
        """What lies in the pools, for people."""
        return inventory.DirectoryInventory(self._places.all())

    def purge_expired(self, *, budget: float = 5.0) -> int:
        """Remove deleted volumes whose retention is over, and what killed processes left half made.

        To be called every few minutes, and at the start. What is not done in time is done next time.

        Args:
            budget: seconds after which no further file is removed; short, so that the pool is not kept busy for
                somebody who unmounts it.

        Returns:
            How many deleted volumes were removed.
        """
        deadline = time.monotonic() + budget
        purged = 0
        for place in self._places.all():
            try:
                place.maker.sweep()
                place.pool.inspect()
                purged += place.trash.purge(may_go_on=lambda: time.monotonic() < deadline)
            except errors.ProvisionerError as error:
                place.pool.complain(error)
        return purged

    def probe(self) -> None:
        """Write to every pool, as `base.Backend.probe`; a pool that fails is an error only if no other works.

        A full pool works: its volumes are mounted, unmounted and deleted as ever. A liveness probe that failed for
        it would have one Pod that fills the disk restart the driver of all.
        """
        failures = []
        for place in self._places.all():
            try:
                place.pool.probe()
            except errors.InsufficientCapacityError as error:
                place.pool.complain(error)
            except errors.ProvisionerError as error:
                place.pool.complain(error)
                failures.append(error)
        if failures and len(failures) == len(self._places.all()):
            raise errors.BackendUnavailableError(
                "; ".join(failure.message for failure in failures), remedy=failures[0].remedy
            )

    def create(self, request: model.VolumeRequest) -> model.Volume:
        """Make the volume, as `base.Backend.create`."""
        rules.check_capabilities(request.capabilities, shared=self._shared)
        parsed = parameters.Parameters.parse(request.parameters)
        existing = self._places.find(request.name)
        if existing is not None:
            return self._existing(existing, request)
        if not rules.is_reachable_from(self.topology(), request.accessibility):
            raise errors.InsufficientCapacityError(
                f"the volume must be reachable from elsewhere, and the pools here are node {self._settings.node_name}'s"
            )
        size = rules.choose_size(request.size, default=self._settings.default_size)
        record = self._places.create(
            request.name, parsed.pool, lambda volume: self._record(volume, request, parsed, size)
        )
        return self._existing(record, request)

    def delete(self, volume_id: model.VolumeId) -> None:
        """Move the volume to the trash, as `base.Backend.delete`.

        Raises:
            errors.BackendUnavailableError: also where the volume is of a pool that is not here: it may exist there.
        """
        volume = ids.DirectoryId.parse(volume_id.value)
        if volume is None:
            return
        place = self._places.owner(volume)
        if place is None:
            raise errors.BackendUnavailableError(
                f"volume {volume_id} is of a pool that is not here: its disk was replaced, or another node has it",
                remedy="mount the pool it was made in; if that is lost for good, remove the PersistentVolume by hand",
            )
        place.trash.delete(volume)

    def get(self, volume_id: model.VolumeId) -> model.Volume:
        """The volume, as `base.Backend.get`."""
        place, volume = self._known(volume_id)
        record = place.pool.find(volume)
        if record is None:
            raise _not_found(volume_id)
        return self._volume(record)

    def list(self, *, after: model.VolumeId | None, limit: int) -> Sequence[model.Volume]:
        """A page of volumes over all pools, as `base.Backend.list`; all pools must be there for it."""
        start = "" if after is None else after.value
        page: list[model.Volume] = []
        # Ids begin with the pool, so that sorted pools hold sorted volumes.
        for place in sorted(self._places.all(), key=lambda place: place.pool.digits()):
            behind = sorted((volume for volume in place.pool.volumes() if str(volume) > start), key=str)
            found = place.pool.read(behind)
            page.extend(self._volume(record) for record in itertools.islice(found, limit - len(page)))
        return page

    def validate(
        self, volume_id: model.VolumeId, capabilities: Sequence[model.Capability], parameters: dict[str, str]
    ) -> str | None:
        """Why the volume cannot be used so, as `base.Backend.validate`."""
        place, volume = self._known(volume_id)
        record = place.pool.find(volume)
        if record is None:
            raise _not_found(volume_id)
        return rules.objection(record, capabilities, parameters, shared=self._shared)

    def capacity(
        self,
        *,
        capabilities: Sequence[model.Capability],
        parameters: dict[str, str],
        topology: model.Topology | None,
    ) -> model.Available:
        """The room, as `base.Backend.capacity`; a pool that cannot be used now has none."""
        parsed = _parse(parameters)
        here = self.topology()
        elsewhere = topology is not None and here is not None and not here.within(topology)
        if elsewhere or any(rules.refusal(wanted, shared=self._shared) for wanted in capabilities):
            return model.Available(total=0, largest=0)
        rooms = [room for room, _ in self._places.rank(parsed.pool).usable]
        return model.Available(total=sum(rooms), largest=max(rooms, default=0))

    def topology(self) -> model.Topology | None:
        """This node, or None where every node mounts the pools."""
        name = self._settings.node_name
        return None if name is None else model.Topology.of({self._settings.topology_key: name})

    def locate(self, volume_id: model.VolumeId) -> Path:
        """The volume's data directory, as `base.NodeBackend.locate`; never makes one."""
        place, volume = self._known(volume_id)
        path = place.pool.locate(volume)
        if path is None:
            raise _not_found(volume_id)
        return path

    def usage(self, volume_id: model.VolumeId) -> model.Usage:
        """How full the volume is, as `base.NodeBackend.usage`, of its own size and by walking its tree.

        What is available is never more than the pool has. Inodes are not limited, so they are not counted.
        """
        place, volume = self._known(volume_id)
        measured = place.pool.measure(volume, lambda data: self._meter.used(volume_id, data))
        if measured is None:
            raise _not_found(volume_id)
        size, used, free = measured
        return model.Usage(total=size, used=used, available=max(0, min(size - used, free)))

    @property
    def _shared(self) -> bool:
        return self._settings.node_name is None

    def _known(self, volume_id: model.VolumeId) -> tuple[placement.Place, ids.DirectoryId]:
        volume = ids.DirectoryId.parse(volume_id.value)
        place = None if volume is None else self._places.owner(volume)
        if volume is None or place is None:
            raise _not_found(volume_id)
        return place, volume

    def _existing(self, record: records.Record, request: model.VolumeRequest) -> model.Volume:
        difference = rules.difference(record, request)
        if difference is not None:
            raise errors.VolumeExistsError(
                f"volume {request.name} exists already and differs in {difference}",
                remedy="ask for the same again, or use another name",
            )
        return self._volume(record)

    def _record(
        self,
        volume: ids.DirectoryId,
        request: model.VolumeRequest,
        parsed: parameters.Parameters,
        size: int,
    ) -> records.Record:
        return records.Record(
            schema=records.SCHEMA,
            id=str(volume),
            name=request.name,
            size=size,
            capabilities=records.describe_capabilities(request.capabilities),
            parameters=parameters.own(request.parameters),
            label=parsed.label,
            enforcement=_ENFORCEMENT,
            node_name=self._settings.node_name or "",
            created=self._clock().isoformat(),
        )

    def _volume(self, record: records.Record) -> model.Volume:
        here = self.topology()
        return model.Volume(
            id=model.VolumeId(record.id),
            size=record.size,
            context={"enforcement": record.enforcement},
            topologies=() if here is None else (here,),
        )


def _parse(given: Mapping[str, str]) -> parameters.Parameters:
    return parameters.Parameters.parse(given)


def _not_found(volume_id: model.VolumeId) -> errors.VolumeNotFoundError:
    return errors.VolumeNotFoundError(f"there is no volume {volume_id} here")
