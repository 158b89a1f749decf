"""Images served by `rbd-nbd` to the kernel's network block device: librbd's features without the kernel's client.

The daemon is found by its command line, which names the volume's folder, and its device by /sys/block/nbdN/pid. It has
its own session, takes the image's lock for good (`--exclusive`), and follows the image's size by itself.
"""

from pathlib import Path

from provisioner import errors, model
from provisioner.backends import commands
from provisioner.backends.rbd.attach import access, api, kernel, loops, processes
from provisioner.backends.rbd.client import api as client_api
from provisioner.node import outlive

_PROGRAM = "rbd-nbd"
_MAPPING_SECONDS = 60


class NbdAttacher:
    """Attaches by rbd-nbd.

    Args:
        system: the kernel's sysfs.
        proc: the kernel's process table.
    """

    name = "nbd"

    def __init__(self, runner: commands.Runner, *, system: Path = Path("/sys"), proc: Path = Path("/proc")) -> None:
        self._runner = runner
        self._system = system
        self._proc = proc

    def unavailable(self) -> str:
        """Why this node cannot do it; empty where it can."""
        return kernel.unavailable(_PROGRAM, "nbd", self._runner, sign=self._system / "module/nbd")

    def attach(self, record: api.Record, credentials: client_api.Credentials, options: str) -> Path:
        """The device that the daemon serves."""
        found = self.device(record)
        if found is not None:
            return found
        wanted = [f"--{word}" for word in access.options(options)]
        if record.read_only:
            wanted.append("--read-only")
        elif not record.shared:
            wanted.append("--exclusive")
        with access.granted(record.folder, credentials) as given:
            words = [
                *(_PROGRAM, "map", record.spec),
                *(f"--conf={given.conf}", f"--id={credentials.user}", f"--keyfile={given.key}", *wanted),
            ]
            done = self._runner.run(words, timeout=_MAPPING_SECONDS, redact=(credentials.key,))
        device = Path(done.output.strip())
        number = processes.read_pid(self._system / "block" / device.name / "pid")
        outlive.leave_container(number, top=self._system / "fs/cgroup")
        return device

    def device(self, record: api.Record) -> Path | None:
        """The device whose daemon is this volume's, alive; a dead one's is gone with it."""
        for entry in sorted((self._system / "block").glob("nbd*/pid")):
            number = processes.read_pid(entry)
            if number and processes.find(_PROGRAM, str(record.folder), hint=number, proc=self._proc) == number:
                return Path("/dev", entry.parent.name)
        return None

    def detach(self, record: api.Record) -> None:
        """Unmap the device, which writes out what it holds."""
        device = self.device(record)
        if device is None:
            return
        loops.refuse_claimed(device)
        self._runner.run([_PROGRAM, "unmap", str(device)], timeout=_MAPPING_SECONDS)

    def refresh(self, record: api.Record, size: int) -> None:
        """Wait until the daemon has told the kernel the image's size."""
        device = self.device(record)
        if device is None:
            raise errors.BackendUnavailableError(f"the {_PROGRAM} of volume {record.volume} has ended")
        kernel.await_size(device, size, system=self._system)

    def condition(self, record: api.Record) -> model.Condition:
        """Whether daemon and device are there."""
        if self.device(record) is None:
            return model.Condition(abnormal=True, message=f"the {_PROGRAM} that serves the volume has ended")
        return model.HEALTHY
