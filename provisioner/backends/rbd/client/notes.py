"""Notes: small texts in a place, each of which only the first who leaves it can have left."""

import errno

from provisioner.backends.rbd.client import errors, space, translate

_EXCLUSIVE = 1  # LIBRADOS_CREATE_EXCLUSIVE
_LIMIT = 64 * 1024


class _LeftError(errors.ClusterError):
    """There is a note of this name."""


_LEFT: translate.Kinds = {errno.EEXIST: _LeftError}


class Notes(space.Space):
    """See `api.Images`."""

    def claim_note(self, item: str, text: str) -> str | None:
        """See `api.Images`."""
        operation = self.ioctx.create_write_op()
        try:
            operation.new(_EXCLUSIVE)
            operation.write_full(text.encode())
            with self._session.calling(f"leaving the note {item} in {self._place}", _LEFT):
                self.ioctx.operate_write_op(operation, _object(item))
        except _LeftError:
            # Gone by now: whoever left it is done, and the next call may be the first. An empty text names nobody.
            return self.read_note(item) or ""
        finally:
            self.ioctx.release_write_op(operation)
        return None

    def read_note(self, item: str) -> str | None:
        """See `api.Images`."""
        try:
            with self._session.calling(f"reading the note {item} in {self._place}"):
                return bytes(self.ioctx.read(_object(item), _LIMIT)).decode("utf-8", "replace")
        except errors.ImageNotFoundError:
            return None

    def drop_note(self, item: str) -> None:
        """See `api.Images`."""
        # Nobody waits for the answer. What this connection does next to the same note comes after it.
        with self._session.calling(f"removing the note {item} in {self._place}"):
            self.ioctx.aio_remove(_object(item))


def _object(item: str) -> str:
    return f"provisioner_note.{item}"
