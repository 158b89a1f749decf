"""Images by librbd: `api.Images`, put together from its parts."""

from collections.abc import Mapping, Sequence

from provisioner.backends.rbd.client import api, errors, layouts, locks, notes, snapshots, trash


class LibrbdImages(snapshots.Snapshots, trash.Trash, locks.Locks, notes.Notes):
    """The images of one place of a real cluster."""

    def create(
        self,
        name: str,
        size: int,
        *,
        layout: api.Layout = api.Layout(),  # noqa: B008  (frozen, as the protocol has it)
        metadata: Mapping[str, str] | None = None,
    ) -> str:
        """See `api.Images`."""
        options = self._options(layout)
        with self._session.calling(f"creating image {name} in {self._place}"):
            self._rbd.create(self.ioctx, name, size, old_format=False, **options)
        image_id = self._id(name)
        if metadata:
            self.set_metadata(image_id, metadata)
        return image_id

    def list(self) -> Sequence[api.ImageEntry]:
        """See `api.Images`."""
        with self._session.calling(f"listing the images in {self._place}"):
            return [api.ImageEntry(found["id"], found["name"]) for found in self._rbd.list2(self.ioctx)]

    def inspect(self, name: str) -> api.ImageInfo:
        """See `api.Images`."""
        record = self.find(name)
        with self._opened(name, "inspecting", read_only=True) as image:
            return api.ImageInfo(
                id=record.id,
                name=name,
                size=image.size(),
                layout=layouts.read(image, self._session.pool_name),
                created=snapshots.in_utc(image.create_timestamp()),
                metadata=record.metadata,
                parent=self._parent(image),
            )

    def resize(self, name: str, size: int) -> None:
        """See `api.Images`."""
        with self._opened(name, "resizing", read_only=False) as image:
            present = image.size()
            if size < present:
                raise errors.ShrinkRefusedError(f"image {name} in {self._place} has {present} bytes, more than {size}")
            if size > present:
                image.resize(size, allow_shrink=False)

    def remove(self, name: str) -> None:
        """See `api.Images`."""
        if not self._has_traces(name):
            raise errors.ImageNotFoundError(f"there is no image {name} in {self._place}")
        try:
            with self._session.calling(f"removing image {name} in {self._place}"):
                self._rbd.remove(self.ioctx, name)
        except errors.ImageNotFoundError:
            # Of a half-made image it removes what there is, and says so all the same. A full pool may keep it.
            if self._has_traces(name):
                raise trash.still_there(name, self._place) from None
