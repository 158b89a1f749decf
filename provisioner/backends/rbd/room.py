"""How much room a pool has. Asked for once in a few seconds, for every call that makes something wants to know."""

import threading
import time
from collections.abc import Callable, Sequence

from provisioner import errors, metrics, model
from provisioner.backends.rbd import places
from provisioner.backends.rbd.client import api

_BELIEVED = 5.0
"""Seconds."""


class Rooms:
    """The room of every pool. Thread-safe."""

    def __init__(self, measured: metrics.Metrics, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._metrics = measured
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str], tuple[float, api.PoolStats]] = {}

    def available(self, spot: places.Spot, data_pool: str) -> int | None:
        """Bytes that can still be written; None where the cluster cannot tell. What is in the trash has not come back.

        Raises:
            errors.InvalidParameterError: there is no such data pool.
        """
        return available(self._stats(spot, data_pool or spot.place.pool))

    def check(self, spot: places.Spot, data_pool: str, size: int) -> None:
        """Refuse a volume that could never be filled.

        Raises:
            errors.SizeOutOfRangeError: the pool is smaller, even when empty.
            errors.InsufficientCapacityError: it has not that much now.
        """
        pool = data_pool or spot.place.pool
        if _refusal(self._stats(spot, pool), pool, size) is not None:
            # Nobody is refused for what was so seconds ago.
            self._forget(spot, pool)
            refused = _refusal(self._stats(spot, pool), pool, size)
            if refused is not None:
                raise refused

    def _forget(self, spot: places.Spot, pool: str) -> None:
        with self._lock:
            self._known.pop((spot.cluster_id, pool), None)

    def _stats(self, spot: places.Spot, pool: str) -> api.PoolStats:
        key = (spot.cluster_id, pool)
        with self._lock:
            until, stats = self._known.get(key, (0.0, None))
        if stats is not None and self._clock() < until:
            return stats
        stats = spot.cluster.stats(pool)
        with self._lock:
            self._known[key] = (self._clock() + _BELIEVED, stats)
        label = f"{spot.cluster_id}/{pool}"
        self._metrics.pool_bytes.labels(label, "free").set(stats.max_avail)
        self._metrics.pool_bytes.labels(label, "used").set(stats.used)
        self._metrics.pool_bytes.labels(label, "available").set(available(stats) or 0)
        return stats


def _refusal(stats: api.PoolStats, pool: str, size: int) -> errors.ProvisionerError | None:
    """Why a pool of this fullness cannot hold so much more; None where it can, or nothing is known."""
    whole = min(filter(None, (stats.quota, stats.max_avail and stats.max_avail + stats.used)), default=None)
    if whole is not None and size > whole:
        return errors.SizeOutOfRangeError(
            f"{size} bytes were asked for, and pool {pool} can hold {whole} when it is empty",
            remedy="ask for less, or enlarge the pool or its quota",
        )
    left = available(stats)
    if left is not None and size > left:
        return errors.InsufficientCapacityError(
            f"{size} bytes were asked for, and pool {pool} has {left} left; deleted volumes count until they are "
            "purged",
            remedy="delete volumes, or enlarge the pool or its quota",
        )
    return None


def available(stats: api.PoolStats) -> int | None:
    """What can still be written, capped by the quota; None where nothing tells."""
    limits = [max(0, stats.quota - stats.used)] if stats.quota else []
    if stats.max_avail:
        limits.append(stats.max_avail)
    return min(limits, default=None)


def as_answer(rooms: Sequence[int]) -> model.Available:
    """The room of several pools as CSI wants it, in whole mebibytes."""
    whole = [min(left, 1 << 60) // model.MIB * model.MIB for left in rooms]
    return model.Available(total=sum(whole), largest=max(whole, default=0), smallest=model.MIB)
