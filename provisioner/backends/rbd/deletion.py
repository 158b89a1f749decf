"""Deletes volumes: into the pool's trash, from where they can be had back until their time is over.

An image whose snapshots are still wanted, or whose class retains it, is put aside instead. Nothing is called deleted
because it was not found: in a full pool Ceph says so of images that are there, so the listing has the last word.
"""

import datetime
from collections.abc import Callable

from provisioner import errors
from provisioner.backends.rbd import aside, making, places, record
from provisioner.backends.rbd.client import errors as client_errors


class Deleter:
    """Takes images away. `steps` is told each step that was reached."""

    def __init__(
        self,
        instance: str,
        maker: making.Maker,
        *,
        clock: Callable[[], datetime.datetime],
        steps: Callable[[str], None],
    ) -> None:
        self._instance = instance
        self._maker = maker
        self._clock = clock
        self._steps = steps

    def delete(self, spot: places.Spot, image: str) -> None:
        """Take the volume away. Missing is not an error; what somebody else made under its name is left alone.

        Raises:
            errors.VolumeInUseError: a node has it, or a client has it open for writing; says which, at which address.
            errors.OperationPendingError: it is being made.
        """
        try:
            seen = spot.images.find(image)
        except client_errors.ImageIncompleteError:
            self._maker.clear(spot, image)
            return
        except client_errors.ImageNotFoundError:
            self._confirm_gone(spot, image)
            return
        found = record.Record.parse(seen.metadata, instance=self._instance, image=image)
        if found is None or not found.ready:
            # Either no volume yet, or a stranger's image: a note tells, and only the first is removed.
            self._maker.clear(spot, image)
            return
        _refuse_published(spot, image, found)
        self._refuse_in_use(spot, image)
        self._steps("delete.checked")
        if found.taken or found.on_delete == "retain":
            aside.put_aside(spot.images, self._instance, image, seen.id, found.deleted or self._clock())
        else:
            self._to_trash(spot, image, found)
        self._steps("delete.done")
        self._maker.forget(spot, image)

    def release(self, spot: places.Spot, image_id: str, found: record.Record) -> None:
        """Let an image go whose last snapshot is gone; one that the class retains stays. Idempotent."""
        if found.on_delete != "retain":
            self._to_trash(spot, aside.kept_name(self._instance, image_id), found)

    def _to_trash(self, spot: places.Spot, image: str, found: record.Record) -> None:
        delay = 0 if found.on_delete == "purge" else found.retention
        try:
            spot.images.trash_move(image, delay_seconds=delay)
        except client_errors.ImageNotFoundError:
            self._confirm_gone(spot, image)

    def _confirm_gone(self, spot: places.Spot, image: str) -> None:
        if spot.images.exists(image):
            raise errors.BackendUnavailableError(
                f"image {image} in {spot} is listed, and cannot be opened", remedy="call again later"
            )
        self._maker.forget(spot, image)

    def _refuse_in_use(self, spot: places.Spot, image: str) -> None:
        watchers = spot.images.watchers(image)
        if watchers:
            raise errors.VolumeInUseError(
                f"image {image} in {spot} is open at {watchers[0].address}",
                remedy="wait until its node has let go of it; after a crash that takes half a minute",
            )


def _refuse_published(spot: places.Spot, image: str, found: record.Record) -> None:
    """A node that only reads is no watcher, nor is one that has not mapped the image yet."""
    if found.nodes:
        raise errors.VolumeInUseError(
            f"image {image} in {spot} is published to node {min(found.nodes)}",
            remedy="it can go when the volume is detached from there",
        )
