"""`make demo` takes everything away, also where somebody loses patience with it."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import image_build, needs, process

pytestmark = pytest.mark.timeout(600)

_INTERRUPTED = 130


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A directory for temporary files whose path is short enough for sockets below it."""
    needs.require(needs.NODE)
    image_build.archive()
    with tempfile.TemporaryDirectory(prefix="d") as folder:
        yield Path(folder)


@pytest.mark.parametrize(
    ("backend", "moment"),
    [
        ("directory", "A cluster of one node"),
        ("directory", "A StatefulSet `web`"),
        ("rbd", "Each Pod wrote"),
    ],
)
def test_after_ctrl_c_nothing_of_the_demo_is_left(scratch: Path, backend: str, moment: str) -> None:
    before = _loop_devices()
    demo = subprocess.Popen(
        [sys.executable, "-m", "tests.demo", f"--backend={backend}"],
        cwd=image_build.ROOT,
        env={**os.environ, "TMPDIR": str(scratch), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Whoever runs the tests in the background has it ignore what a terminal would send.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads here yet
    )
    assert demo.stdout is not None
    seen = next((line for line in demo.stdout if moment in line), "")
    assert seen, "the demo ended before that"
    assert _processes(scratch)
    demo.send_signal(signal.SIGINT)
    demo.communicate(timeout=60)

    assert demo.returncode == _INTERRUPTED
    process.wait_until(lambda: not _processes(scratch), seconds=20, what="the processes to end")
    process.wait_until(lambda: _loop_devices() <= before, seconds=20, what="the loop devices to be detached")
    assert [path for path in scratch.glob("provisioner-sandboxes/*") if path.is_dir()] == []
    assert str(scratch) not in Path("/proc/self/mountinfo").read_text()


def _loop_devices() -> set[str]:
    """The loop devices over what a daemon serves as the file `disk`, and over what is mounted no more."""
    shown = {path: path.read_text().strip() for path in Path("/sys/block").glob("loop*/loop/backing_file")}
    return {str(path) for path, file in shown.items() if file == "/" or file.endswith("/disk")}


def _processes(scratch: Path) -> list[str]:
    """The command lines of what still runs in or for a sandbox below the directory."""
    lines = (process.command_line(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [line for line in lines if str(scratch) in line]
