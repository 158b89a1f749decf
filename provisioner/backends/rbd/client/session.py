"""One connection to a cluster, and what librados answers of pools.

Whoever uses images of it holds it, and the handle disconnects when the last one lets go: so a connection that was
replaced is never taken from a call that is under way. For that, nothing here may refer to those who hold it.
"""

import contextlib
import errno
import json
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

from provisioner.backends.rbd.client import api, binding, connect, errors, translate


class Session:
    """One connection. Thread-safe.

    Attributes:
        name: what the operator calls the cluster.
        handle: the binding's `Rados`.
        usable: whether it is of use still; once it is not, it never will be.
    """

    def __init__(self, credentials: api.Credentials, limits: connect.Limits) -> None:
        self.name = credentials.cluster
        self.handle = connect.connect(credentials, limits)
        # At the end of the process, threads may still be in it.
        weakref.finalize(self, self.handle.shutdown).atexit = False
        self.usable = True

    @contextlib.contextmanager
    def calling(self, what: str, kinds: translate.Kinds | None = None) -> Iterator[None]:
        """Translate errors, and notice those that a connection does not survive."""
        try:
            with translate.translated(what, kinds):
                yield
        except (errors.BlocklistedError, errors.ClusterUnreachableError):
            self.usable = False
            raise

    def pools(self) -> Sequence[tuple[int, str]]:
        """Numbers and names of all pools, as the monitors have them now."""
        return [(pool["poolnum"], pool["poolname"]) for pool in self.command("osd lspools")]

    def pool_id(self, name: str) -> int:
        """The number of a pool.

        Raises:
            errors.PoolNotFoundError: there is none.
        """
        if name not in self._mapped() and not self._catch_up(name):
            raise self._no_pool(ascii(name))
        with self.calling(f"looking up pool {name}"):
            found: int | None = self.handle.pool_lookup(name)
        if found is None:
            raise self._no_pool(ascii(name))
        return found

    def pool_name(self, pool_id: int) -> str:
        """The name of a pool.

        Raises:
            errors.PoolNotFoundError: there is none.
        """
        with self.calling(f"looking up pool {pool_id}"):
            found = next((name for name in self._mapped() if self.handle.pool_lookup(name) == pool_id), None)
        if found is None:
            found = next((name for number, name in self.pools() if number == pool_id), None)
        if found is None:
            raise self._no_pool(f"number {pool_id}")
        return found

    def _mapped(self) -> Sequence[str]:
        """The pools in our map of the cluster. Asks nobody, where looking up a pool that is not there waits forever."""
        with self.calling("reading the cluster's map"):
            return list(self.handle.list_pools())

    def _catch_up(self, name: str) -> bool:
        """Whether the monitors know the pool, and by now our map too: one has just answered, and will again."""
        if all(name != known for _, known in self.pools()):
            return False
        with self.calling("reading the cluster's map"):
            self.handle.wait_for_latest_osdmap()
        return True

    def _no_pool(self, which: str) -> errors.PoolNotFoundError:
        return errors.PoolNotFoundError(
            f"cluster {self.name} has no pool {which}", remedy="name one of those that `ceph osd pool ls` lists"
        )

    def open(self, place: api.Place) -> Any:
        """A new I/O context for a place. Raises as `api.Cluster.images`."""
        self.pool_id(place.pool)
        with self.calling(f"opening pool {place.pool}", {errno.ENOENT: errors.PoolNotFoundError}):
            ioctx = self.handle.open_ioctx(place.pool)
        # Without it, whatever writes to a full pool waits for room instead of failing.
        ioctx.set_osdmap_full_try()
        if place.namespace:
            self._check_namespace(ioctx, place)
            ioctx.set_namespace(place.namespace)
        return ioctx

    def _check_namespace(self, ioctx: Any, place: api.Place) -> None:
        try:
            with self.calling(f"looking up namespace {place.namespace} of pool {place.pool}"):
                found = binding.load().rbd.RBD().namespace_exists(ioctx, place.namespace)
        except errors.NotPermittedError:
            return  # A user of this one namespace may not read the list of them.
        if not found:
            raise errors.NamespaceNotFoundError(
                f"pool {place.pool} of cluster {self.name} has no namespace {place.namespace!a}",
                remedy=f"make it with `rbd namespace create {place}`, or name another",
            )

    def command(self, prefix: str, **arguments: str) -> Any:
        """Have a monitor (never the manager, see `connect`) answer a command; its answer."""
        request = json.dumps({"prefix": prefix, "format": "json", **arguments})
        with self.calling(f"asking the monitors ({prefix})"):
            status, answer, _said = self.handle.mon_command(request, b"")
        if status != 0:
            raise translate.of(f"asking the monitors ({prefix})", status)
        try:
            # Some answers have more behind the answer.
            return json.JSONDecoder().raw_decode(answer.decode().lstrip())[0]
        except ValueError as error:
            raise errors.ClusterError(f"the monitors' answer to {prefix} is no JSON") from error
