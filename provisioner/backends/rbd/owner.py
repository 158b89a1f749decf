"""Who is making an image: the text of the note that stands in the pool while one is made.

A note whose process has ended says that what is there was left half made. A process of this machine is looked up; of
one elsewhere it is only known for how long it has been at it, and no creation takes as long as `_PATIENCE`.
"""

import contextlib
import dataclasses
import datetime
import functools
import json
import os
from pathlib import Path
from typing import Self

_PATIENCE = datetime.timedelta(seconds=120)
"""Longer than a creation whose every step takes its whole time-out, and than clocks differ."""


@dataclasses.dataclass(frozen=True, slots=True)
class Owner:
    """A process at a time.

    Attributes:
        machine: the boot, and the set of processes that its number is of (a container has its own).
        process: number and start, so that a number that was used again is another process.
        part: of the process, which may hold several that make images.
    """

    machine: str
    process: str
    part: str
    since: datetime.datetime

    @classmethod
    def me(cls, part: str, now: datetime.datetime) -> Self:
        """This process, beginning now."""
        return cls(_machine(), _this_process(os.getpid()), part, now)

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read a note; None where it is none of ours."""
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
            found = json.loads(text)
            since = datetime.datetime.fromisoformat(found["since"])
            return cls(str(found["machine"]), str(found["process"]), str(found["part"]), since)
        return None

    def __str__(self) -> str:
        fields = {"machine": self.machine, "process": self.process, "part": self.part}
        return json.dumps(fields | {"since": self.since.isoformat()})

    def has_ended(self, now: datetime.datetime) -> bool:
        """Whether the process is at it no more; this one is asked by whoever knows that it is not."""
        if self.machine == _machine():
            number = self.process.partition(".")[0]
            return not number.isdecimal() or self.process != f"{number}.{_started(int(number))}"
        return now - self.since > _PATIENCE

    def is_me(self, part: str) -> bool:
        """Whether it is this part of this process."""
        return self == Owner.me(part, self.since)


@functools.cache
def _machine() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"


@functools.cache
def _this_process(number: int) -> str:
    return f"{number}.{_started(number)}"


def _started(process: int) -> str:
    """When the process was started, in the kernel's ticks; empty where there is none."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # The command in parentheses may hold anything; the state and 18 more fields are between it and the start.
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]
