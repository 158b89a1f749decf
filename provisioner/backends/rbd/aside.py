"""Images that are volumes no more and cannot go to the trash: their snapshots are needed, or the class retains them.

Such an image gets another name, so that its old one is free. Ceph's trash is the way there: into it, and back under
the new name. A process that is killed between leaves the image in the trash, and `recover` takes it on from there: it
is told from what was deleted by a time to expire that no class can ask for.
"""

import contextlib
import datetime

from provisioner.backends.rbd import names
from provisioner.backends.rbd.client import api
from provisioner.backends.rbd.client import errors as client_errors

_ON_ITS_WAY = datetime.timedelta(days=20 * 365)
_FAR = datetime.timedelta(days=15 * 365)
_SUFFIX = ".kept"


def kept_name(instance: str, image_id: str) -> str:
    """The name of such an image; no volume's has a dot."""
    return f"{instance}-{image_id}{_SUFFIX}"


def is_kept(instance: str, image: str) -> bool:
    """Whether this is the name of an image that was put aside."""
    return image.startswith(f"{instance}-") and image.endswith(_SUFFIX)


def put_aside(images: api.Images, instance: str, image: str, image_id: str, now: datetime.datetime) -> None:
    """Take the image's name away. Idempotent, also where it was begun by a call that was cut short."""
    images.set_metadata(image_id, {names.DELETED_AT: now.isoformat()})
    images.trash_move(image, delay_seconds=int(_ON_ITS_WAY.total_seconds()))
    images.trash_restore(image_id, kept_name(instance, image_id))


def is_on_its_way(entry: api.TrashEntry, now: datetime.datetime) -> bool:
    """Whether the image is in the trash because a process was killed that put it aside."""
    return entry.expires - now > _FAR


def recover(images: api.Images, instance: str, image_id: str) -> None:
    """Take an image on that was left in the trash on its way; nothing happens where another process did."""
    with contextlib.suppress(client_errors.ImageNotFoundError):
        images.trash_restore(image_id, kept_name(instance, image_id))
