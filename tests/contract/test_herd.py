"""What is started beside the tests ends with them, whatever they die of."""

import signal
import subprocess
import sys
from pathlib import Path

from tests.harness import herd, process

_ROOT = Path(__file__).parents[2]
_RUNNER = """
import time
from tests.harness import herd
made = herd.Herd()
daemon = made.start("sleeper", ["/bin/sleep", "1000"])
print(made.folder, daemon.pid, flush=True)
time.sleep(1000)
"""


def test_a_daemon_and_its_folder_end_with_a_runner_that_is_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _RUNNER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=_ROOT
    ) as runner:
        assert runner.stdout is not None
        folder, daemon = runner.stdout.readline().split()
        assert "sleep" in process.command_line(int(daemon))

        runner.send_signal(signal.SIGKILL)

    process.wait_until(lambda: not process.command_line(int(daemon)), seconds=20, what="the daemon's end")
    process.wait_until(lambda: not Path(folder).exists(), seconds=20, what="the folder to go")


def test_a_daemon_and_its_folder_end_when_the_herd_is_closed() -> None:
    made = herd.Herd()
    daemon = made.start("sleeper", ["/bin/sleep", "1000"])
    process.wait_until(lambda: "sleep" in process.command_line(daemon.pid), seconds=10, what="the daemon")

    made.close()
    made.close()

    daemon.wait(10)
    assert not made.folder.exists()
