"""The daemons that serve images: found by their command line, and ended in a way that lets them write out."""

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_PROC = Path("/proc")
_POLL_SECONDS = 0.01


def find(program: str, marker: str, *, hint: int = 0, proc: Path = _PROC) -> int:
    """The process of the program that has `marker` in an argument; 0 where there is none.

    Args:
        hint: a process that may be it, and is looked at first.
    """
    if hint and _matches(proc / str(hint), program, marker):
        return hint
    return next((number for number in _numbers(proc) if _matches(proc / str(number), program, marker)), 0)


def read_pid(path: Path) -> int:
    """The number in a pid file; 0 where it says none."""
    with contextlib.suppress(OSError, ValueError):
        return int(path.read_text(encoding="ascii"))
    return 0


def end(number: int, *, seconds: float) -> bool:
    """Ask the process to end, wait for it, and kill it where it does not; returns whether it ended by itself."""
    try:
        process = os.pidfd_open(number)
    except ProcessLookupError:
        return True
    try:
        for sent, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, seconds)):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(process, sent)
            if select.select([process], [], [], patience)[0]:
                return sent is signal.SIGTERM
    finally:
        os.close(process)
    return False


def wait(condition: Callable[[], bool], *, seconds: float) -> bool:
    """Look until the condition holds, for at most so long; whether it does."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _numbers(proc: Path) -> Iterator[int]:
    return (int(entry.name) for entry in proc.iterdir() if entry.name.isdecimal())


def _matches(entry: Path, program: str, marker: str) -> bool:
    try:
        # A process that has ended and waits for its parent has no command line any more.
        words = (entry / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return Path(os.fsdecode(words[0])).name == program and any(os.fsencode(marker) in word for word in words[1:])
