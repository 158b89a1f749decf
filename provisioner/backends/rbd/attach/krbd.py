"""Images mapped by the kernel's own client. What is mapped, its sysfs says: /sys/bus/rbd/devices/<number>/.

The kernel takes the image's lock for good (`exclusive`), and follows the image's size by itself.
"""

from pathlib import Path

from provisioner import errors, model
from provisioner.backends import commands
from provisioner.backends.rbd.attach import access, api, kernel, loops
from provisioner.backends.rbd.client import api as client_api

_MAPPING_SECONDS = 60


class KrbdAttacher:
    """Attaches by `rbd map`.

    Args:
        system: the kernel's sysfs.
    """

    name = "krbd"

    def __init__(self, runner: commands.Runner, *, system: Path = Path("/sys")) -> None:
        self._runner = runner
        self._system = system

    def unavailable(self) -> str:
        """Why this node cannot do it; empty where it can."""
        return kernel.unavailable("rbd", "rbd", self._runner, sign=self._system / "bus/rbd")

    def attach(self, record: api.Record, credentials: client_api.Credentials, options: str) -> Path:
        """The mapped device."""
        found = self.device(record)
        if found is not None:
            return found
        wanted = access.options(options)
        # Nobody waits for udev in a container that has none.
        wanted += ["noudev", *([] if record.read_only or record.shared else ["exclusive"])]
        with access.granted(record.folder, credentials) as given:
            words = [
                *("rbd", "device", "map", record.spec),
                *(f"--conf={given.conf}", f"--id={credentials.user}", f"--keyfile={given.key}"),
                *(f"--options={','.join(wanted)}", *(["--read-only"] if record.read_only else [])),
            ]
            done = self._runner.run(words, timeout=_MAPPING_SECONDS, redact=(credentials.key,))
        return Path(done.output.strip())

    def device(self, record: api.Record) -> Path | None:
        """The device that the kernel has mapped the image to."""
        # Two clusters may have a pool and an image of the same names.
        wanted = (record.fsid, record.place.pool, record.place.namespace, record.image, "-")
        names = ("cluster_fsid", "pool", "pool_ns", "name", "current_snap")
        for entry in sorted((self._system / "bus/rbd/devices").glob("*")):
            if tuple(_attribute(entry, name) for name in names) == wanted:
                return Path("/dev", f"rbd{entry.name}")
        return None

    def detach(self, record: api.Record) -> None:
        """Unmap the device, which writes out what it holds."""
        device = self.device(record)
        if device is None:
            return
        loops.refuse_claimed(device)
        self._runner.run(["rbd", "device", "unmap", "--options=noudev", str(device)], timeout=_MAPPING_SECONDS)

    def refresh(self, record: api.Record, size: int) -> None:
        """Wait until the kernel has heard of the image's size."""
        device = self.device(record)
        if device is None:
            raise errors.BackendUnavailableError(f"volume {record.volume} is not mapped any more")
        kernel.await_size(device, size, system=self._system)

    def condition(self, record: api.Record) -> model.Condition:
        """Whether the device is there."""
        if self.device(record) is None:
            return model.Condition(abnormal=True, message="the image is not mapped any more")
        return model.HEALTHY


def _attribute(entry: Path, name: str) -> str:
    try:
        return (entry / name).read_text(encoding="utf-8").strip()
    except OSError:
        # It has just been unmapped; or the kernel, older than 4.19, knows no namespaces.
        return ""
