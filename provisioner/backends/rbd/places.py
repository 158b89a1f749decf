"""Finds the place of a volume: from a class's parameters, from an id, or all that there are.

Nothing of a connection is kept here: whoever connects keeps one per cluster and key, so that a rotated key or a moved
monitor counts from the next call on.
"""

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import structlog

from provisioner import errors
from provisioner.backends.rbd import clusters, ids, parameters
from provisioner.backends.rbd.client import api
from provisioner.backends.rbd.client import errors as client_errors

_KNOWN_FOR = 60.0
"""Seconds for which a cluster's pools and namespaces are believed to be the same."""

_log = structlog.get_logger(__name__)

Connect = Callable[[api.Credentials], api.Cluster]


@dataclasses.dataclass(frozen=True, slots=True)
class Spot:
    """A place that can be used now.

    Attributes:
        cluster_id: the operator's name for the cluster.
    """

    id: ids.PlaceId
    cluster_id: str
    cluster: api.Cluster
    images: api.Images

    @property
    def place(self) -> api.Place:
        """Pool and namespace, by name."""
        return self.images.place

    def __str__(self) -> str:
        return f"{self.cluster_id}/{self.place}"


class Places:
    """The places of all clusters. Thread-safe.

    Args:
        connect: gives the connection for these credentials, the same one each time.
    """

    def __init__(self, known: clusters.Clusters, connect: Connect) -> None:
        self._clusters = known
        self._connect = connect
        self._lock = threading.Lock()
        self._found: dict[str, tuple[float, tuple[api.Place, ...]]] = {}
        self._used: dict[str, set[api.Place]] = {}

    def of_class(self, wanted: parameters.Parameters) -> Spot:
        """The place where a class's volumes are made.

        Raises:
            errors.InvalidParameterError: no pool is named, or there is no such cluster, pool or namespace.
        """
        credentials = self._named(wanted.cluster)
        if not wanted.pool:
            raise errors.InvalidParameterError(
                "the StorageClass has no parameter pool", remedy="write the Ceph pool that its volumes are made in"
            )
        return self._spot(credentials, api.Place(wanted.pool, wanted.namespace))

    def of_id(self, place: ids.PlaceId) -> Spot | None:
        """The place that an id names; None where there is no such cluster, pool or namespace."""
        credentials = self._clusters.by_digits(place.cluster)
        if credentials is None:
            return None
        cluster = self._connect(credentials)
        try:
            found = api.Place(cluster.pool_name(place.pool), place.namespace)
            return self._note(Spot(place, credentials.cluster, cluster, cluster.images(found)))
        except (client_errors.PoolNotFoundError, client_errors.NamespaceNotFoundError):
            return None

    def all(self) -> Sequence[Spot]:
        """Every place that may hold volumes: those that the user may list, and those that were used."""
        return [spot for credentials in self._clusters.all() for spot in self._of_cluster(credentials)]

    def usable(self) -> Iterator[Spot]:
        """Every place, but of those clusters that cannot be used now, which is logged."""
        for credentials in self._clusters.all():
            try:
                yield from list(self._of_cluster(credentials))
            except errors.BackendUnavailableError as error:
                _log.warning("Ceph cluster cannot be used", cluster=credentials.cluster, error=str(error))

    def check(self) -> None:
        """Ask every cluster something.

        Raises:
            errors.BackendUnavailableError: no cluster answers, and why.
        """
        failures = []
        known = self._clusters.all()
        for credentials in known:
            try:
                cluster = self._connect(credentials)
                for pool in cluster.pools()[:1]:
                    cluster.stats(pool)
            except errors.BackendUnavailableError as error:
                _log.warning("Ceph cluster cannot be used", cluster=credentials.cluster, error=str(error))
                failures.append(error)
        if not known:
            raise errors.BackendUnavailableError(
                "no Ceph cluster is known", remedy="write one into the clusters file: clusterID, monitors, user, key"
            )
        if len(failures) == len(known):
            raise failures[0]

    def complain(self, spot: Spot, error: errors.ProvisionerError) -> None:
        """Log what went wrong in one place, where the others are gone on with."""
        _log.warning("place cannot be used", place=str(spot), error=str(error))

    def _named(self, cluster_id: str) -> api.Credentials:
        known = self._clusters.all()
        if not cluster_id and len(known) == 1:
            return known[0]
        found = self._clusters.get(cluster_id)
        if found is None:
            listed = ", ".join(each.cluster for each in known) or "none"
            raise errors.InvalidParameterError(
                f"the StorageClass parameter clusterID is {cluster_id[:64]!a}, and the clusters here are: {listed}",
                remedy="correct it, or add the cluster to the clusters file",
            )
        return found

    def _spot(self, credentials: api.Credentials, place: api.Place) -> Spot:
        cluster = self._connect(credentials)
        number = cluster.pool_id(place.pool)
        name = ids.PlaceId(ids.cluster_digits(credentials.cluster), number, place.namespace)
        return self._note(Spot(name, credentials.cluster, cluster, cluster.images(place)))

    def _note(self, spot: Spot) -> Spot:
        """Remember the place: a user who may use one namespace alone cannot list those of the pool."""
        with self._lock:
            self._used.setdefault(spot.cluster_id, set()).add(spot.place)
        return spot

    def _of_cluster(self, credentials: api.Credentials) -> Iterator[Spot]:
        discovered = self._discover(credentials)
        with self._lock:
            used = set(self._used.get(credentials.cluster, ()))
        for place in sorted(used.union(discovered)):
            try:
                yield self._spot(credentials, place)
            except (client_errors.PoolNotFoundError, client_errors.NamespaceNotFoundError):
                continue

    def _discover(self, credentials: api.Credentials) -> tuple[api.Place, ...]:
        with self._lock:
            until, found = self._found.get(credentials.cluster, (0.0, ()))
        if time.monotonic() < until:
            return found
        found = tuple(_discovered(self._connect(credentials)))
        with self._lock:
            self._found[credentials.cluster] = (time.monotonic() + _KNOWN_FOR, found)
        return found


def _discovered(cluster: api.Cluster) -> Iterator[api.Place]:
    for pool in cluster.pools():
        try:
            spaces = [name for name in cluster.namespaces(pool) if len(name) <= ids.NAMESPACE_LIMIT]
        except (client_errors.NotPermittedError, client_errors.PoolNotFoundError):
            continue
        yield from (api.Place(pool, space) for space in ("", *spaces))
