"""The node's side of any backend, without that backend's devices: a loop device stands for each of its volumes."""

from pathlib import Path

from provisioner import model
from provisioner.backends import base
from tests.fakes import loop_backend


class LoopVolumes(loop_backend.LoopBackend):
    """A `base.DeviceBackend` whose volumes are those of `backend`, as large as they are there.

    Args:
        backend: says which volumes there are.
        folder: where the files are that the loop devices show.
    """

    def __init__(self, backend: base.Backend, folder: Path) -> None:
        super().__init__(folder)
        self._backend = backend

    def attach(self, attachment: base.Attachment) -> Path:
        self._fit(attachment.volume_id)
        return super().attach(attachment)

    def refresh(self, volume_id: model.VolumeId) -> int:
        self._fit(volume_id)
        return super().refresh(volume_id)

    def _fit(self, volume_id: model.VolumeId) -> None:
        size = self._backend.get(volume_id).size
        with self.file(volume_id).open("ab") as file:
            file.truncate(size)
