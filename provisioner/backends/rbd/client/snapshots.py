"""The snapshots of images, and the clones that hang on them."""

import datetime
import errno
from collections.abc import Mapping, Sequence
from typing import Any

from provisioner.backends.rbd.client import api, errors, space, translate

_NO_SNAPSHOT: translate.Kinds = {
    errno.ENOENT: errors.NoSuchSnapshotError,
    errno.EBUSY: errors.SnapshotBusyError,
    errno.EEXIST: errors.SnapshotTakenError,
}


class Snapshots(space.Space):
    """See `api.Images`."""

    def create_snapshot(self, name: str, snapshot: str) -> None:
        """See `api.Images`."""
        with self._opened(name, f"taking snapshot {snapshot} of", read_only=False, kinds=_NO_SNAPSHOT) as image:
            image.create_snap(snapshot)

    def snapshots(self, name: str) -> Sequence[api.SnapshotInfo]:
        """See `api.Images`."""
        with self._opened(name, "listing the snapshots of", read_only=True) as image:
            known = (self._loaded.rbd.RBD_SNAP_NAMESPACE_TYPE_USER, self._loaded.rbd.RBD_SNAP_NAMESPACE_TYPE_TRASH)
            found = [_snapshot(image, entry) for entry in image.list_snaps() if entry["namespace"] in known]
        return sorted(found, key=lambda each: each.id)

    def remove_snapshot(self, name: str, snapshot: str) -> None:
        """See `api.Images`."""
        with self._opened(name, f"removing snapshot {snapshot} of", read_only=False, kinds=_NO_SNAPSHOT) as image:
            image.remove_snap(snapshot)

    def children(self, name: str, snapshot: str) -> Sequence[api.Child]:
        """See `api.Images`."""
        what = f"listing the children of snapshot {snapshot} of"
        with self._opened(name, what, read_only=True, kinds=_NO_SNAPSHOT) as image:
            image.set_snap(snapshot)
            return [_child(entry) for entry in image.list_children2()]

    def clone(
        self,
        parent: api.SnapshotRef,
        name: str,
        *,
        layout: api.Layout = api.Layout(),  # noqa: B008  (frozen, as the protocol has it)
        metadata: Mapping[str, str] | None = None,
    ) -> str:
        """See `api.Images`."""
        source, options = self._neighbour(parent.place), self._options(layout)
        what = f"cloning snapshot {parent.snapshot} of image {parent.image} in {parent.place} to {name}"
        with self._session.calling(what, {errno.ENOENT: errors.NoSuchSnapshotError}):
            self._rbd.clone(source.ioctx, parent.image, parent.snapshot, self.ioctx, name, **options)
        image_id = self._id(name)
        wanted, inherited = metadata or {}, self.metadata(image_id)
        if wanted != inherited:
            self._change_metadata(image_id, wanted, inherited.keys() - wanted.keys())
        return image_id

    def flatten(self, name: str) -> None:
        """See `api.Images`."""
        with self._opened(name, "flattening", read_only=False) as image:
            if _parent_spec(self._loaded.rbd, image) is not None:
                image.flatten()

    def _parent(self, image: Any) -> api.Parent | None:
        spec = _parent_spec(self._loaded.rbd, image)
        if spec is None:
            return None
        place = api.Place(spec["pool_name"], spec["pool_namespace"])
        image_id = image.parent_id()
        return api.Parent(
            place=place,
            image_id=image_id,
            image=spec["image_name"],
            snapshot=spec["snap_name"],
            trashed=self._neighbour(place).is_trashed(image_id),
        )


def _parent_spec(rbd: Any, image: Any) -> Mapping[str, Any] | None:
    try:
        found: Mapping[str, Any] = image.get_parent_image_spec()
    except rbd.ImageNotFound:
        return None
    return found


def _snapshot(image: Any, entry: Mapping[str, Any]) -> api.SnapshotInfo:
    trashed = entry.get("trash")
    return api.SnapshotInfo(
        id=entry["id"],
        name=trashed["original_name"] if trashed else entry["name"],
        size=entry["size"],
        created=in_utc(image.get_snap_timestamp(entry["id"])),
        trashed=trashed is not None,
    )


def _child(entry: Mapping[str, Any]) -> api.Child:
    return api.Child(
        place=api.Place(entry["pool"], entry["pool_namespace"]),
        image_id=entry["id"],
        image=entry["image"],
        trashed=entry["trash"],
    )


def in_utc(naive: datetime.datetime) -> datetime.datetime:
    """The binding gives UTC without saying so."""
    return naive.replace(tzinfo=datetime.UTC)
