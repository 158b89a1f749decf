"""Block devices for tests of the node's half without Ceph: each volume is a file, its device a loop device over it.

What is recorded of a volume lies in a file beside it, so that a second backend on the same folder is the same node
after a restart.
"""

from pathlib import Path

from provisioner import errors, model
from provisioner.backends import base, commands
from provisioner.backends.rbd.attach import loops


class LoopBackend:
    """A `base.DeviceBackend`.

    Attributes:
        broken: why the device of every volume is said not to work; empty where it works.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runner = commands.System()
        self.broken = ""

    def make(self, name: str, mebibytes: int = 32) -> model.VolumeId:
        with self.file(model.VolumeId(name)).open("wb") as file:
            file.truncate(mebibytes << 20)
        return model.VolumeId(name)

    def file(self, volume_id: model.VolumeId) -> Path:
        return self._folder / f"{volume_id}.img"

    def topology(self) -> model.Topology | None:
        return None

    def attach(self, attachment: base.Attachment) -> Path:
        file = self.file(attachment.volume_id)
        if not file.exists():
            raise errors.VolumeNotFoundError(f"there is no volume {attachment.volume_id}")
        self.broken = ""
        return loops.attach(file, self._runner, read_only=attachment.read_only)

    def device(self, volume_id: model.VolumeId) -> Path | None:
        return loops.find(self.file(volume_id))

    def detach(self, volume_id: model.VolumeId) -> None:
        device = self.device(volume_id)
        if device is not None:
            loops.detach(device, self._runner)

    def refresh(self, volume_id: model.VolumeId) -> int:
        device = self.device(volume_id)
        if device is None:
            raise errors.VolumeNotFoundError(f"volume {volume_id} is not attached")
        loops.take_size(device, self._runner)
        return self.file(volume_id).stat().st_size

    def formatted(self, volume_id: model.VolumeId) -> base.Formatted:
        record = self._record(volume_id)
        return base.Formatted(record.read_text()) if record.exists() else base.Formatted.NEVER

    def record_format(self, volume_id: model.VolumeId, state: base.Formatted) -> None:
        self._record(volume_id).write_text(state.value)

    def condition(self, volume_id: model.VolumeId) -> model.Condition:
        return model.Condition(abnormal=True, message=self.broken) if self.broken else model.HEALTHY

    def _record(self, volume_id: model.VolumeId) -> Path:
        return self._folder / f"{volume_id}.record"
