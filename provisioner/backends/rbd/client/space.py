"""One place of a pool as librados has it: what all parts of `LibrbdImages` stand on.

An I/O context is shared by all threads; librados is made for that. The reads and writes here go to an image's own
objects without opening the image, which costs a fraction:

    rbd_id.NAME        the id                      rbd_directory      which names and ids there are
    rbd_header.ID      size, metadata and more
"""

import contextlib
import errno
import weakref
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from provisioner.backends.rbd.client import api, binding, errors, layouts, session, translate, wire

_PAGE = 64
_PAGE_BYTES = 64 * 1024
_MOST_BYTES = 16 * 1024 * 1024
_NONE: Mapping[str, str] = {}


class Space:
    """The objects of one place. Raises as `api.Cluster.images`.

    Attributes:
        ioctx: the binding's I/O context, in the place's namespace.
    """

    def __init__(self, held: session.Session, place: api.Place) -> None:
        self.ioctx = held.open(place)
        # It must not outlive its connection, which may end with `self._session`.
        weakref.finalize(self, self.ioctx.close).atexit = False
        self._session = held
        self._place = place
        self._loaded = binding.load()
        self._rbd = self._loaded.rbd.RBD()

    def _neighbour(self, place: api.Place) -> "Space":
        """Another place of the same cluster."""
        return self if place == self._place else Space(self._session, place)

    @property
    def place(self) -> api.Place:
        """See `api.Images`."""
        return self._place

    @contextlib.contextmanager
    def _opened(self, name: str, what: str, *, read_only: bool, kinds: translate.Kinds | None = None) -> Iterator[Any]:
        """An image, open. Opening it for reading leaves no watcher. `kinds` are for what is done with it."""
        with self._session.calling(f"opening image {name} in {self._place}"):
            image = self._loaded.rbd.Image(self.ioctx, name, read_only=read_only)
        try:
            with self._session.calling(f"{what} image {name} in {self._place}", kinds):
                yield image
        finally:
            with self._session.calling(f"closing image {name} in {self._place}"):
                image.close()

    def _options(self, layout: api.Layout) -> dict[str, Any]:
        """What librbd takes for a layout. Looks for the data pool, for which librbd would wait without end."""
        if layout.data_pool:
            self._session.pool_id(layout.data_pool)
        return layouts.options(layout)

    def _id(self, name: str) -> str:
        """The id that a name stands for."""
        with self._session.calling(f"looking up image {name} in {self._place}"):
            return wire.read_text(self.ioctx.read(f"rbd_id.{name}"))

    def _has_traces(self, name: str) -> bool:
        """Whether a whole image, or what a killed creation left of one, has this name."""
        with contextlib.suppress(errors.ImageNotFoundError):
            self._id(name)
            return True
        return self.exists(name)

    def exists(self, name: str) -> bool:
        """See `api.Images`."""
        try:
            with self._session.calling(f"looking up image {name} in {self._place}"):
                self.ioctx.execute("rbd_directory", "rbd", "dir_get_id", wire.text(name))
        except errors.ImageNotFoundError:
            return False
        return True

    def find(self, name: str) -> api.ImageRecord:
        """See `api.Images`."""
        try:
            image_id = self._id(name)
        except errors.ImageNotFoundError:
            if self.exists(name):
                raise self._incomplete(name) from None
            raise
        try:
            return api.ImageRecord(id=image_id, name=name, size=self._size(image_id), metadata=self.metadata(image_id))
        except errors.ImageNotFoundError:
            raise self._incomplete(name) from None

    def is_trashed(self, image_id: str) -> bool:
        """Whether the trash of this place has the image."""
        try:
            with self._session.calling(f"looking for image {image_id} in the trash of {self._place}"):
                self._rbd.trash_get(self.ioctx, image_id)
        except errors.ImageNotFoundError:
            return False
        return True

    def _incomplete(self, name: str) -> errors.ImageIncompleteError:
        return errors.ImageIncompleteError(f"image {name} in {self._place} was only half made, or is just being made")

    def _size(self, image_id: str) -> int:
        with self._session.calling(f"reading the size of image {image_id} in {self._place}"):
            _, body = self.ioctx.execute(_header(image_id), "rbd", "get_size", wire.head_revision())
            return wire.read_size(body)

    def metadata(self, image_id: str) -> Mapping[str, str]:
        """See `api.Images`."""
        found: dict[str, str] = {}
        page = self._metadata_page(image_id, "")
        while page:
            found |= page
            page = self._metadata_page(image_id, max(page)) if len(page) == _PAGE else {}
        return found

    def _metadata_page(self, image_id: str, after: str, room: int = _PAGE_BYTES) -> dict[str, str]:
        call = ("rbd", "metadata_list", wire.metadata_page(after, _PAGE), room)
        try:
            with self._session.calling(
                f"reading the metadata of image {image_id} in {self._place}", {errno.ERANGE: _TooLongError}
            ):
                _, body = self.ioctx.execute(_header(image_id), *call)
                return wire.read_pairs(body)
        except _TooLongError:
            if room >= _MOST_BYTES:
                raise
            return self._metadata_page(image_id, after, _MOST_BYTES)

    def set_metadata(self, image_id: str, pairs: Mapping[str, str]) -> None:
        """See `api.Images`."""
        self._change_metadata(image_id, pairs, ())

    def remove_metadata(self, image_id: str, keys: Collection[str]) -> None:
        """See `api.Images`."""
        self._change_metadata(image_id, _NONE, keys)

    def _change_metadata(self, image_id: str, pairs: Mapping[str, str], gone: Collection[str]) -> None:
        """Change the metadata in one step, which does nothing at all where there is no such image."""
        operation = self.ioctx.create_write_op()
        try:
            # A write would make the header that it does not find.
            operation.execute("rbd", "get_size", wire.head_revision())
            for key in gone:
                operation.execute("rbd", "metadata_remove", wire.text(key))
            if pairs:
                operation.execute("rbd", "metadata_set", wire.pairs(pairs))
            with self._session.calling(f"changing the metadata of image {image_id} in {self._place}"):
                self.ioctx.operate_write_op(operation, _header(image_id))
        finally:
            self.ioctx.release_write_op(operation)


class _TooLongError(errors.ClusterError):
    """The answer does not fit into the room given for it."""


def _header(image_id: str) -> str:
    return f"rbd_header.{image_id}"
