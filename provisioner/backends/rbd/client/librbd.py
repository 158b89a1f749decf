"""A real cluster: `api.Cluster` by librados."""

import threading
from collections.abc import Collection, Sequence
from typing import Any

from provisioner.backends.rbd.client import api, binding, connect, session
from provisioner.backends.rbd.client import images as librbd_images


class LibradosCluster:
    """One connection. Thread-safe.

    Raises:
        errors.BindingMissingError: this machine lacks Ceph's libraries.
        errors.AuthenticationError: the user or the key is refused.
        errors.ClusterUnreachableError: no monitor answers.
    """

    def __init__(self, credentials: api.Credentials, limits: connect.Limits = connect.DEFAULT_LIMITS) -> None:
        self._session = session.Session(credentials, limits)
        self._lock = threading.Lock()
        self._images: dict[tuple[int, api.Place], librbd_images.LibrbdImages] = {}

    def is_usable(self) -> bool:
        """See `api.Cluster`."""
        return self._session.usable

    def fsid(self) -> str:
        """See `api.Cluster`."""
        with self._session.calling("reading the cluster's id"):
            return str(self._session.handle.get_fsid())

    def pools(self) -> Sequence[str]:
        """See `api.Cluster`."""
        return [name for _, name in self._session.pools()]

    def pool_id(self, name: str) -> int:
        """See `api.Cluster`."""
        return self._session.pool_id(name)

    def pool_name(self, pool_id: int) -> str:
        """See `api.Cluster`."""
        return self._session.pool_name(pool_id)

    def namespaces(self, pool: str) -> Sequence[str]:
        """See `api.Cluster`."""
        ioctx = self.images(api.Place(pool)).ioctx
        with self._session.calling(f"listing the namespaces of pool {pool}"):
            return [str(name) for name in binding.load().rbd.RBD().namespace_list(ioctx)]

    def stats(self, pool: str) -> api.PoolStats:
        """See `api.Cluster`."""
        self._session.pool_id(pool)
        pools: list[dict[str, Any]] = self._session.command("df", detail="detail")["pools"]
        usage: dict[str, int] = next((each["stats"] for each in pools if each["name"] == pool), {})
        return api.PoolStats(
            max_avail=usage.get("max_avail", 0), used=usage.get("stored", 0), quota=usage.get("quota_bytes", 0)
        )

    def images(self, place: api.Place) -> librbd_images.LibrbdImages:
        """See `api.Cluster`."""
        # What is open stays with the pool's number, and a name may become another pool's.
        key = (self._session.pool_id(place.pool), place)
        with self._lock:
            known = self._images.get(key)
        if known is not None:
            return known
        opened = librbd_images.LibrbdImages(self._session, place)
        with self._lock:
            return self._images.setdefault((int(opened.ioctx.get_pool_id()), place), opened)

    def fence(self, address: str, *, seconds: int) -> None:
        """See `api.Cluster`."""
        with self._session.calling(f"blocklisting {address}"):
            self._session.handle.blocklist_add(address, seconds)

    def fenced(self) -> Collection[str]:
        """See `api.Cluster`."""
        return {entry["addr"] for entry in self._session.command("osd blocklist ls")}
