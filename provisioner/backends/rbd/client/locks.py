"""Locks: the exclusive lock of an image, whose holder alone may write, and advisory locks on any name."""

import errno
from collections.abc import Sequence

from provisioner.backends.rbd.client import api, errors, space, translate, wire

_NAME = "provisioner"
_MAY_RENEW = 1  # LIBRADOS_LOCK_FLAG_MAY_RENEW
_HELD: translate.Kinds = {errno.EBUSY: errors.LockHeldError}


class Locks(space.Space):
    """See `api.Images`."""

    def watchers(self, name: str) -> Sequence[api.Watcher]:
        """See `api.Images`."""
        with self._opened(name, "listing the watchers of", read_only=True) as image:
            return [api.Watcher(found["addr"], found["id"], found["cookie"]) for found in image.watchers_list()]

    def lock_owner(self, name: str) -> api.LockOwner | None:
        """See `api.Images`."""
        with self._opened(name, "reading the lock of", read_only=True) as image:
            found = image.list_lockers()
        holders = found["lockers"] if found else []
        return next((api.LockOwner(address, client, cookie) for client, cookie, address in holders), None)

    def break_lock(self, name: str, owner: api.LockOwner) -> None:
        """See `api.Images`."""
        try:
            with self._opened(name, "breaking the lock of", read_only=False, kinds={errno.ENOENT: _FreeError}) as image:
                image.lock_break(self._loaded.rbd.RBD_LOCK_MODE_EXCLUSIVE, owner.address)
        except _FreeError:
            return

    def lock(self, item: str, *, cookie: str, seconds: int) -> None:
        """See `api.Images`."""
        with self._session.calling(f"locking {item} in {self._place}", _HELD):
            self.ioctx.lock_exclusive(_object(item), _NAME, cookie, "", seconds, _MAY_RENEW)

    def unlock(self, item: str, *, cookie: str) -> None:
        """See `api.Images`."""
        # The lock is an attribute of its object: removing that returns it. In one step, lest it be another's by then.
        operation = self.ioctx.create_write_op()
        try:
            operation.execute("lock", "assert_locked", wire.assert_locked(_NAME, cookie))
            operation.remove()
            with self._session.calling(f"unlocking {item} in {self._place}", _HELD):
                self.ioctx.operate_write_op(operation, _object(item))
        except (errors.LockHeldError, errors.ImageNotFoundError):
            return
        finally:
            self.ioctx.release_write_op(operation)


class _FreeError(errors.ClusterError):
    """Nobody holds the lock."""


def _object(item: str) -> str:
    return f"provisioner_lock.{item}"
