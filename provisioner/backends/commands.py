"""The one way to run a program: an argument list, a time limit, and an error that carries the program's own words.

No shell is involved, the environment is bare, and nothing can be read from standard input, so that no program asks.
A secret must never be an argument: whatever user is on the machine can read those.
"""

import contextlib
import dataclasses
import os
import signal
import subprocess
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from provisioner import errors

_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
_TAIL = 400
"""Characters of what a program complained of that are shown: the end says why it gave up."""


class CommandError(errors.BackendUnavailableError):
    """A program could not be run to a good end."""


class ProgramMissingError(CommandError):
    """The program is not installed here."""


class CommandTimedOutError(CommandError):
    """The program took too long and was killed; what it had done by then stays."""


class CommandFailedError(CommandError):
    """The program said no.

    Attributes:
        code: its exit status; negative where a signal ended it.
    """

    def __init__(self, message: str, *, code: int, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.code = code


@dataclasses.dataclass(frozen=True, slots=True)
class Finished:
    """A program that has ended as expected."""

    code: int
    output: str


class Runner(Protocol):
    """Runs programs; tests have one that only writes down what was asked for."""

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        timeout: float = 30,
        accept: Collection[int] = (0,),
        redact: Collection[str] = (),
    ) -> Finished:
        """Run a program to its end.

        Args:
            argv: the program, found in the usual directories, and its arguments.
            timeout: seconds after which it is killed, with everything that it started.
            accept: exit statuses that are no failure.
            redact: texts that must not show in an error, though the program may print them.

        Raises:
            ProgramMissingError: there is no such program.
            CommandTimedOutError: it took too long.
            CommandFailedError: it ended with another status.
        """


class System:
    """The `Runner` that does run them."""

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        timeout: float = 30,
        accept: Collection[int] = (0,),
        redact: Collection[str] = (),
    ) -> Finished:
        """Run a program to its end, as `Runner.run`."""
        words = [str(word) for word in argv]
        with _started(words) as process:
            try:
                output, complaint = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired as error:
                raise CommandTimedOutError(
                    f"{words[0]} had not ended after {timeout:g} s and was killed",
                    remedy="what it works on does not answer; look at that",
                ) from error
        if process.returncode not in accept:
            raise CommandFailedError(
                f"{words[0]} failed with status {process.returncode}: {_tail(complaint or output, redact)}",
                code=process.returncode,
            )
        return Finished(process.returncode, output.decode("utf-8", "replace"))


@contextlib.contextmanager
def _started(words: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    try:
        process = subprocess.Popen(  # noqa: S603 - no shell, and every word is ours or was checked by whoever asks
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_ENVIRONMENT,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise ProgramMissingError(f"{words[0]} is not installed on this node", remedy="install it") from error
    except OSError as error:
        raise CommandError(f"{words[0]} cannot be started: {error.strerror}") from error
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


def _tail(complaint: bytes, redact: Collection[str]) -> str:
    text = complaint.decode("utf-8", "replace")
    for secret in filter(None, redact):
        text = text.replace(secret, "***")
    shown = " ".join(text.split())
    return shown if len(shown) <= _TAIL else f"…{shown[-_TAIL:]}"
