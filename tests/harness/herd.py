"""Daemons on this machine's own network that end with whoever started them, even if that is killed with -9.

    runner ──stdin pipe──▶ cat (pid 1 of a process namespace) ; every daemon runs in that namespace

When the pipe's other end closes, for whatever reason, cat ends; the kernel then kills all that is in its namespace, and
the shell around it removes the folder. A sandbox does the same and more; a herd is for what must be reached without
entering a network namespace, as by a library in the process that runs the tests.
"""

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.harness import errors, process

_KEEP = 'unshare --pid --fork --kill-child=SIGKILL cat; rm -rf -- "$1"'


class Herd:
    """The daemons of one folder.

    Attributes:
        folder: what they write; removed with them.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="provisioner-herd-")).resolve()
        self._keeper = subprocess.Popen(
            ["/bin/sh", "-c", _KEEP, "sh", self.folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        process.wait_until(self._has_started, seconds=10, what="a process namespace")
        self._init = next(process.children(next(process.children(self._keeper.pid))))

    def _has_started(self) -> bool:
        if self._keeper.poll() is not None:
            raise errors.HarnessError("no process namespace could be made; it takes root")
        unshare = next(process.children(self._keeper.pid), None)
        init = next(process.children(unshare), None) if unshare is not None else None
        # Until it has become cat, it is still a fork of unshare, and nobody could enter.
        return init is not None and process.command_line(init) == "cat"

    def start(self, name: str, arguments: Sequence[str | Path]) -> process.Component:
        """Start a daemon that stays in the foreground."""
        command = ["nsenter", f"--target={self._init}", "--pid", "--", *map(str, arguments)]
        return process.Component(name, command, self.folder / f"{name}.log")

    def run(self, arguments: Sequence[str | Path], *, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, beside the daemons.

        Raises:
            errors.HarnessError: it failed or took too long; with what it printed.
        """
        shown = " ".join(map(str, arguments))
        try:
            done = subprocess.run(
                list(map(str, arguments)),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            raise errors.HarnessError(f"{shown} took more than {seconds:g} s; it printed: {late.stdout!r}") from None
        if done.returncode != 0:
            raise errors.HarnessError(f"{shown} failed with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    def close(self) -> None:
        """End every daemon and remove the folder; once more is harmless."""
        if self._keeper.stdin is not None:
            self._keeper.stdin.close()
        self._keeper.wait(30)
