"""Which pool a volume lies in, and which one a new volume goes to."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

from provisioner import errors
from provisioner.backends.directory import ids, making, pool, records, trash

_SOONEST_FIRST = (errors.InsufficientCapacityError, errors.BackendUnavailableError, errors.SizeOutOfRangeError)
"""Reasons why a pool does not take a volume; the first are those that pass most easily, here or on another node."""


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """A pool, with those who change it."""

    pool: pool.Pool
    maker: making.Maker
    trash: trash.Trash


@dataclasses.dataclass(frozen=True, slots=True)
class Ranking:
    """The places that can be used now, with the bytes each can promise, the emptiest first; and why others cannot."""

    usable: Sequence[tuple[int, Place]]
    failures: Sequence[errors.ProvisionerError]


class Places:
    """All pools of this process, by name."""

    def __init__(self, places: Iterable[Place]) -> None:
        self._places = {place.pool.name: place for place in places}

    def all(self) -> Sequence[Place]:
        """Each place."""
        return tuple(self._places.values())

    def owner(self, volume: ids.DirectoryId) -> Place | None:
        """The place whose volume it is; None where it is of a pool that is not here.

        Raises:
            errors.BackendUnavailableError: it may be of a pool which has not been seen since the process began.
        """
        unseen: errors.ProvisionerError | None = None
        for place in self.all():
            try:
                if place.pool.digits() == volume.pool:
                    return place
            except errors.ProvisionerError as error:
                unseen = error
        if unseen is not None:
            raise unseen
        return None

    def find(self, request_name: str) -> records.Record | None:
        """The volume of this name, in whichever pool that can be used.

        One that cannot be might hold it too, made by a call whose answer was lost; it is then an orphan there, and
        empty. Waiting for that disk would stop every claim instead.

        Raises:
            errors.VolumeQuarantinedError: there is one, and its record is unreadable.
        """
        for place in self.all():
            try:
                record = place.pool.confirm(ids.DirectoryId.of(place.pool.digits(), request_name))
            except errors.VolumeQuarantinedError:
                raise
            except errors.BackendUnavailableError as error:
                place.pool.complain(error)
                continue
            if record is not None:
                return record
        return None

    def rank(self, pool_name: str) -> Ranking:
        """The places for new volumes: all, or the one that the class names."""
        usable: list[tuple[int, Place]] = []
        failures: list[errors.ProvisionerError] = []
        for place in self._candidates(pool_name):
            try:
                usable.append((place.pool.room().available, place))
            except errors.ProvisionerError as error:
                place.pool.complain(error)
                failures.append(error)
        return Ranking(sorted(usable, key=lambda pair: pair[0], reverse=True), failures)

    def _candidates(self, pool_name: str) -> Sequence[Place]:
        return [place for place in self.all() if pool_name in {"", place.pool.name}]

    def create(
        self, request_name: str, pool_name: str, describe: Callable[[ids.DirectoryId], records.Record]
    ) -> records.Record:
        """Make the volume in the first place that takes it.

        Args:
            describe: the record of the volume, once its id is known.

        Raises:
            errors.InsufficientCapacityError: no place has room, or there is no pool of this name.
            errors.SizeOutOfRangeError: no place could hold it if it were empty, nor could one on another node.
            errors.BackendUnavailableError: no place can be used now.
        """
        candidates = self._candidates(pool_name)
        # One pool needs no comparing, and looks at its room itself.
        ranking = self.rank(pool_name) if len(candidates) > 1 else Ranking([(0, place) for place in candidates], [])
        failures = [*ranking.failures]
        for _, place in ranking.usable:
            volume = ids.DirectoryId.of(place.pool.digits(), request_name)
            try:
                return place.maker.create(volume, describe(volume))
            except (errors.InsufficientCapacityError, errors.SizeOutOfRangeError) as error:
                failures.append(error)
        for kind in _SOONEST_FIRST:
            for failure in failures:
                if isinstance(failure, kind):
                    raise failure
        raise errors.InsufficientCapacityError(
            f"there is no pool {pool_name[:64]!a} here; the pools are: {', '.join(sorted(self._places)) or 'none'}",
            remedy="mend the StorageClass's parameter pool, or use a node that has this pool",
        )
