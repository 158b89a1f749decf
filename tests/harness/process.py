"""One started component: its process on this machine, its log, and how to stop, kill and measure it."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.harness import errors

_POLL_SECONDS = 0.03


def wait_until(condition: Callable[[], object], *, seconds: float, what: str) -> None:
    """Poll until the condition holds.

    Raises:
        errors.HarnessError: it did not within so many seconds; `what` completes "timed out waiting for …".
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise errors.HarnessError(f"timed out after {seconds:g} s waiting for {what}")
        time.sleep(_POLL_SECONDS)


def children(pid: int) -> Iterator[int]:
    """The processes whose parent is `pid`."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                stat = (entry / "stat").read_text()
                if int(stat.rsplit(")", 1)[1].split()[1]) == pid:
                    yield int(entry.name)


def descendants(pid: int) -> Iterator[int]:
    """The processes below `pid`, of every generation."""
    for child in list(children(pid)):
        yield child
        yield from descendants(child)


def command_line(pid: int) -> str:
    """A process's command line; empty where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


class Component:
    """A component that runs in a sandbox.

    Attributes:
        name: as in `kube-apiserver`.
        log: what it has printed, over all its restarts.
    """

    def __init__(self, name: str, command: list[str], log: Path) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self._entering = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        self._pid: int | None = None

    @property
    def pid(self) -> int:
        """Its process id as this machine counts: the one child of the process that entered the sandbox."""
        if self._pid is None:
            wait_until(self._find, seconds=10, what=f"{self.name} to start")
        if self._pid is None:
            raise errors.HarnessError(f"{self.name} ended at once\n{self.tail()}")
        return self._pid

    def _find(self) -> bool:
        self._pid = next(children(self._entering.pid), None)
        return self._pid is not None or not self.alive

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._entering.poll() is None

    def check(self) -> None:
        """Raise HarnessError, with the end of the log, if it has ended."""
        if not self.alive:
            raise errors.HarnessError(f"{self.name} ended with {self._entering.returncode}\n{self.tail()}")

    def signal(self, number: int) -> None:
        """Send it a signal; nothing happens where it has ended."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)
                if number == signal.SIGCONT:  # The process that entered stops with the one it waits for.
                    os.kill(self._entering.pid, number)

    def wait(self, seconds: float) -> int:
        """Wait for its end; its exit status.

        Raises:
            errors.HarnessError: it still runs after so many seconds.
        """
        try:
            return self._entering.wait(seconds)
        except subprocess.TimeoutExpired:
            raise errors.HarnessError(f"{self.name} still runs after {seconds:g} s\n{self.tail()}") from None

    def stop(self, *, seconds: float = 15) -> None:
        """Ask it to end, and kill it when it does not."""
        self.signal(signal.SIGTERM)
        try:
            self._entering.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Kill it with -9 and wait for its end."""
        self.signal(signal.SIGKILL)
        self._entering.wait(10)

    def cpu_seconds(self) -> float:
        """CPU time that it has used, user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_bytes(self) -> int:
        """Its resident memory, in bytes."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def tail(self, lines: int = 40) -> str:
        """The last lines of its log, under a heading."""
        text = self.log.read_text(errors="replace").splitlines()[-lines:] if self.log.exists() else []
        return "\n".join([f"--- the last lines of {self.name}'s log", *text])
