"""Images without help from the kernel: qemu-storage-daemon serves one as a file, and a loop device makes it a device.

    image ◀── librbd ── qemu-storage-daemon ── FUSE ──▶ file ──▶ /dev/loopN

The daemon belongs to nobody: it has its own session, outlives the process that started it, and is found again by its
command line, as the loop device is by its file. (In a container it must be of the node's own process namespace; the
container's control groups it leaves by `outlive`.) Trimming reaches the image. QEMU takes the image's exclusive lock
when it writes and gives it to whoever asks: that nobody does, is seen to by `RbdNode`, by looking at who watches the
image.
"""

import contextlib
import json
import os
from pathlib import Path

import structlog

from provisioner import errors, model
from provisioner.backends import commands
from provisioner.backends.rbd.attach import access, api, loops, processes, qmp
from provisioner.backends.rbd.client import api as client_api
from provisioner.node import mountinfo, outlive

_PROGRAM = "qemu-storage-daemon"
_NODE = "image"
_STARTING_SECONDS = 30
_ENDING_SECONDS = 30
# The kernel believes what a FUSE file's size was for a second.
_GROWING_SECONDS = 10
_log = structlog.get_logger(__name__)


class FuseAttacher:
    """Attaches by qemu-storage-daemon, FUSE and a loop device."""

    name = "fuse"

    def __init__(self, runner: commands.Runner) -> None:
        self._runner = runner

    def unavailable(self) -> str:
        """Why this node cannot do it; empty where it can."""
        for device in ("/dev/fuse", "/dev/loop-control"):
            if not Path(device).exists():
                return f"{device} is missing"
        try:
            self._runner.run([_PROGRAM, "--version"])
        except commands.CommandError as error:
            return error.message
        return ""

    def attach(self, record: api.Record, credentials: client_api.Credentials, options: str) -> Path:
        """The loop device, with the daemon behind it started where it was not."""
        if access.options(options):
            raise errors.InvalidRequestError(
                "mapOptions cannot be used with the mounter fuse", remedy="leave them out of the class"
            )
        if self.condition(record).abnormal:
            # A daemon that was just being started is ended, too: two would be two writers.
            self.detach(record)
            self._start(record, credentials)
        outlive.leave_container(_daemon(record))
        return loops.attach(_file(record), self._runner, read_only=record.read_only)

    def device(self, record: api.Record) -> Path | None:
        """The loop device over the daemon's file."""
        return loops.find(_file(record))

    def detach(self, record: api.Record) -> None:
        """Take the loop device away, and end the daemon when it has written out what it holds."""
        device = self.device(record)
        if device is not None and _daemon(record):
            loops.refuse_claimed(device)
            _write_out(device, record)
            loops.detach(device, self._runner)
            processes.wait(lambda: self.device(record) is None, seconds=_ENDING_SECONDS)
        number = _daemon(record)
        if number and not processes.end(number, seconds=_ENDING_SECONDS):
            _log.warning("a daemon had to be killed", volume=record.volume, process=number)
        self._clear(record)

    def refresh(self, record: api.Record, size: int) -> None:
        """Tell the daemon the image's size, wait until the kernel has heard of it, and tell the loop device."""
        device, number = self.device(record), _daemon(record)
        if device is None or not number:
            raise errors.BackendUnavailableError(
                f"the daemon that serves volume {record.volume} has ended", remedy="end the Pod: it is attached anew"
            )
        qmp.execute(record.folder / "qmp", "block_resize", {"node-name": _NODE, "size": size})
        # The daemon's own view: it may have been started in a container before this one, which saw other mounts.
        seen = Path(f"/proc/{number}/root{_file(record)}")
        if not processes.wait(lambda: seen.stat().st_size >= size, seconds=_GROWING_SECONDS):
            raise errors.BackendUnavailableError(f"volume {record.volume} does not show its new size yet")
        loops.take_size(device, self._runner)

    def condition(self, record: api.Record) -> model.Condition:
        """Whether daemon and loop device are there."""
        if not _daemon(record):
            return model.Condition(abnormal=True, message=f"the {_PROGRAM} that serves the volume has ended")
        if self.device(record) is None:
            return model.Condition(abnormal=True, message="the volume's loop device is gone")
        return model.HEALTHY

    def _clear(self, record: api.Record) -> None:
        """Take away what a daemon that is dead has left behind."""
        device = self.device(record)
        if device is not None:
            loops.detach_later(device, self._runner)
        for _ in mountinfo.mounts_at(_file(record)):
            self._runner.run(["umount", "--lazy", "--no-canonicalize", str(_file(record))])
        for name in ("pid", "qmp", "key", "disk"):
            (record.folder / name).unlink(missing_ok=True)

    def _start(self, record: api.Record, credentials: client_api.Credentials) -> None:
        with access.granted(record.folder, credentials) as given:
            _file(record).touch(mode=0o600)
            self._runner.run(_command(record, credentials, given), timeout=_STARTING_SECONDS, redact=(credentials.key,))


def _command(record: api.Record, credentials: client_api.Credentials, given: access.Access) -> list[str]:
    image = {
        "driver": "rbd",
        "node-name": _NODE,
        "pool": record.place.pool,
        **({"namespace": record.place.namespace} if record.place.namespace else {}),
        "image": record.image,
        "conf": str(given.conf),
        "user": credentials.user,
        "key-secret": "key",
        "discard": "unmap",
        "read-only": record.read_only,
    }
    export = {
        "type": "fuse",
        "id": "export",
        "node-name": _NODE,
        "mountpoint": str(_file(record)),
        "writable": not record.read_only,
        "growable": False,
    }
    secret = {"qom-type": "secret", "id": "key", "format": "base64", "file": str(given.key)}
    return [
        _PROGRAM,
        "--daemonize",
        f"--pidfile={record.folder / 'pid'}",
        f"--object={json.dumps(secret)}",
        f"--chardev=socket,id=qmp,path={record.folder / 'qmp'},server=on,wait=off",
        "--monitor=chardev=qmp",
        f"--blockdev={json.dumps(image)}",
        f"--export={json.dumps(export)}",
    ]


def _file(record: api.Record) -> Path:
    return record.folder / "disk"


def _daemon(record: api.Record) -> int:
    return processes.find(_PROGRAM, str(record.folder), hint=processes.read_pid(record.folder / "pid"))


def _write_out(device: Path, record: api.Record) -> None:
    if record.read_only:
        return
    with contextlib.ExitStack() as stack:
        try:
            fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
            stack.callback(os.close, fd)
            os.fsync(fd)
        except OSError as error:
            # What cannot be written now cannot be later either: the client was fenced off, or the image is gone.
            _log.error("a volume was detached with data that could not be written", volume=record.volume, error=error)
