"""A process that works on a storage and is killed at one of its steps: its own half, and that of its test.

Its module runs by `python -m`, prints each step that it reached, and dies by SIGKILL at the n-th.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).parents[2]


class Killer:
    """Counts the steps and ends the process at one."""

    def __init__(self, at: int) -> None:
        self._left = at

    def __call__(self, step: str) -> None:
        print(step, flush=True)
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def start(module: str, *words: object) -> subprocess.Popen[str]:
    """Start the process whose module is `tests.chaos.MODULE`."""
    return subprocess.Popen(
        [sys.executable, "-m", f"tests.chaos.{module}", *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=_ROOT,
    )
