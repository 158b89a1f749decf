"""The node's records of what it attaches: a folder for each volume, on a filesystem that a reboot empties.

A record says what was wanted; whether it is there, the kernel and the process table are asked.
"""

import dataclasses
import hashlib
import json
import os
import shutil
from pathlib import Path

from provisioner import errors, model
from provisioner.backends.rbd.attach import api
from provisioner.backends.rbd.client import api as client_api

_FILE = "record.json"
_SOCKET_LIMIT = 107
_LONGEST = len("/0123456789abcdef/qmp")


class Records:
    """The records of one node.

    Args:
        root: where the folders are; on a tmpfs (/run), for keys lie here for a moment.

    Raises:
        errors.InvalidRequestError: the path is too long for unix sockets in it.
    """

    def __init__(self, root: Path) -> None:
        if len(os.fsencode(root)) + _LONGEST > _SOCKET_LIMIT:
            raise errors.InvalidRequestError(
                f"the path {root} is too long for unix sockets in it", remedy="use a shorter one, as /run/provisioner"
            )
        # As mountinfo and the loop devices show it.
        self._root = root.resolve()

    def folder(self, volume_id: model.VolumeId) -> Path:
        """The volume's folder, whether it is there or not."""
        return self._root / hashlib.sha256(volume_id.value.encode()).hexdigest()[:16]

    def load(self, volume_id: model.VolumeId) -> api.Record | None:
        """The volume's record; None where nothing of it is, or was being, attached.

        Raises:
            errors.BackendUnavailableError: it is unreadable.
        """
        folder = self.folder(volume_id)
        try:
            found = json.loads((folder / _FILE).read_text(encoding="utf-8"))
            return api.Record(
                **found
                | {
                    "folder": folder,
                    "place": client_api.Place(**found["place"]),
                    "addresses": tuple(found["addresses"]),
                }
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise errors.BackendUnavailableError(
                f"the record of volume {volume_id} in {folder} is unreadable ({type(error).__name__})",
                remedy="detach its device by hand, then remove that folder",
            ) from error

    def save(self, record: api.Record) -> None:
        """Write the record, in one step.

        Raises:
            errors.BackendUnavailableError: it cannot be written.
        """
        fields = dataclasses.asdict(record)
        del fields["folder"]
        temporary = record.folder / f"{_FILE}.new"
        try:
            record.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary.write_text(json.dumps(fields), encoding="utf-8")
            temporary.replace(record.folder / _FILE)
        except OSError as error:
            raise errors.BackendUnavailableError(f"{temporary} cannot be written: {error.strerror}") from error

    def forget(self, record: api.Record) -> None:
        """Remove the record, and the folder with it. Idempotent."""
        (record.folder / _FILE).unlink(missing_ok=True)
        shutil.rmtree(record.folder, ignore_errors=True)
