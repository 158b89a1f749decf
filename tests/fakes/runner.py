"""A runner of programs that runs none: it writes down what was asked for, and answers as it was told."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from provisioner.backends import commands

Answer = Callable[[list[str]], str]


class FakeRunner:
    """Implements `commands.Runner`.

    Attributes:
        asked: every command, in order.
    """

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self._answers: dict[str, Answer] = {}
        self._missing: set[str] = set()

    def on(self, program: str, answer: Answer) -> None:
        """Answer the program's calls; those without an answer print nothing."""
        self._answers[program] = answer

    def lacks(self, program: str) -> None:
        self._missing.add(program)

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        timeout: float = 30,
        accept: Collection[int] = (0,),
        redact: Collection[str] = (),
    ) -> commands.Finished:
        words = [str(word) for word in argv]
        self.asked.append(words)
        if words[0] in self._missing:
            raise commands.ProgramMissingError(f"{words[0]} is not installed on this node")
        answer = self._answers.get(words[0])
        return commands.Finished(0, answer(words) if answer else "")
