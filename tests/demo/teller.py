"""Prints the story as a person would follow it: the steps, the commands, what they printed, how long it took."""

import contextlib
import time
from collections.abc import Iterator

from rich import console, rule, text


class Teller:
    """One telling; with colours on a terminal, plain elsewhere."""

    def __init__(self) -> None:
        self._console = console.Console(highlight=False, soft_wrap=True)
        self._step = 0
        self._started = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the telling began."""
        return time.monotonic() - self._started

    def title(self, words: str) -> None:
        """A heading."""
        self._console.print()
        self._console.print(rule.Rule(text.Text(words, style="bold"), align="left", style="cyan"))

    @contextlib.contextmanager
    def step(self, words: str) -> Iterator[None]:
        """One step: its words before, the time it took after; a cross where it fails."""
        self._step += 1
        self._console.print()
        self._console.print(text.Text.assemble((f"{self._step:>2}  ", "bold cyan"), (words, "bold")))
        started = time.monotonic()
        try:
            yield
        except BaseException:
            self._console.print(
                text.Text(f"    ✗ not as told, after {time.monotonic() - started:.1f} s", style="bold red")
            )
            raise
        self._console.print(text.Text(f"    ✓ {time.monotonic() - started:.1f} s", style="green"))

    def command(self, words: str) -> None:
        """A command that the reader could type."""
        self._console.print(text.Text(f"    $ {words}", style="cyan"))

    def output(self, printed: str) -> None:
        """What a command printed, as it printed it."""
        for line in printed.rstrip().splitlines():
            self._console.print(text.Text(f"      {line}"))

    def note(self, words: str) -> None:
        """A remark in passing: progress, or what a table means."""
        self._console.print(text.Text(f"    {words}", style="dim"))

    def seen(self, words: str) -> None:
        """Something that had to be seen, and was."""
        self._console.print(text.Text.assemble(("    ✓ ", "green"), words))

    def problem(self, words: str) -> None:
        """What went wrong."""
        self._console.print()
        self._console.print(text.Text(words, style="red"))

    def ending(self, words: str) -> None:
        """The last words."""
        self._console.print()
        self._console.print(text.Text(words, style="bold green"))
