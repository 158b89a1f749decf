"""What the attachers share whose devices are the kernel's own: its module, and the size that it shows."""

from pathlib import Path

from provisioner import errors
from provisioner.backends import commands
from provisioner.backends.rbd.attach import processes

_GROWING_SECONDS = 10
_SECTOR = 512


def unavailable(program: str, module: str, runner: commands.Runner, *, sign: Path) -> str:
    """Why the node cannot use this program and kernel module; empty where it can. The module is loaded where it is not.

    Args:
        sign: what sysfs has where the module is loaded.
    """
    try:
        runner.run([program, "--version"])
        if not sign.exists():
            runner.run(["modprobe", module])
    except commands.CommandError as error:
        return error.message
    return "" if sign.exists() else f"the kernel has no {module}"


def await_size(device: Path, size: int, *, system: Path) -> None:
    """Wait until the kernel shows the device with so many bytes at least.

    Raises:
        errors.BackendUnavailableError: it does not yet.
    """

    def is_shown() -> bool:
        sectors = (system / "block" / device.name / "size").read_text(encoding="ascii")
        return _SECTOR * int(sectors) >= size

    if not processes.wait(is_shown, seconds=_GROWING_SECONDS):
        raise errors.BackendUnavailableError(f"{device} does not show its new size yet")
