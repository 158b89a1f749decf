"""Runs tiers of tests one after the other, each by its own pytest, and closes with one summary.

`python -m tests.harness.tiers [--fail-on-skip] TIER...`: the tier `unit` is the folder tests/unit. Coverage, by branch,
is measured over the tiers that need no cluster. Ends with 1 when a test failed, or when a tier ran none.
"""

import argparse
import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from rich import console, table

_ROOT = Path(__file__).parents[2]
_COVERED = ("unit", "contract")


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What one tier came to."""

    tier: str
    passed: int
    failed: int
    skipped: int
    seconds: float
    status: int

    @property
    def good(self) -> bool:
        """Whether its run of pytest was content, and ran something."""
        return self.status == 0 and self.passed > 0


def main(arguments: Sequence[str]) -> int:
    """Run the tiers; the exit status."""
    parser = argparse.ArgumentParser(prog="tiers", description=__doc__)
    parser.add_argument("tiers", nargs="+", metavar="TIER")
    parser.add_argument("--fail-on-skip", action="store_true", help="a skipped test fails the run")
    options = parser.parse_args(arguments)
    results = [_run(tier, fail_on_skip=options.fail_on_skip) for tier in options.tiers]
    if any(result.tier in _COVERED for result in results):
        subprocess.run([sys.executable, "-m", "coverage", "report", "--skip-covered"], cwd=_ROOT, check=False)
    _summarise(results)
    return 0 if all(result.good for result in results) else 1


def _run(tier: str, *, fail_on_skip: bool) -> Result:
    print(f"\n=== {tier}", flush=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="provisioner-tier-") as folder:
        report = Path(folder, "report.xml")
        command = [sys.executable, "-m", "pytest", f"tests/{tier}", "--quiet", f"--junitxml={report}"]
        if fail_on_skip:
            command.append("--fail-on-skip")
        if tier in _COVERED:
            append = [] if tier == _COVERED[0] else ["--cov-append"]
            command += ["--cov", "--cov-branch", "--cov-report=", *append]
        status = subprocess.run(command, cwd=_ROOT, check=False, env={**os.environ, "COLUMNS": "140"}).returncode
        passed, failed, skipped = _counts(report)
    return Result(tier, passed, failed, skipped, time.monotonic() - started, status)


def _counts(report: Path) -> tuple[int, int, int]:
    if not report.exists():
        return 0, 1, 0
    suite = ET.parse(report).getroot().find("testsuite")
    if suite is None:
        return 0, 1, 0
    total, failures, faults, skipped = (int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped"))
    return total - failures - faults - skipped, failures + faults, skipped


def _summarise(results: Sequence[Result]) -> None:
    summary = table.Table(
        "tier", "passed", "failed", "skipped", "seconds", "", title="\nAll tiers", title_justify="left"
    )
    for result in results:
        numbers = (result.passed, result.failed, result.skipped, round(result.seconds))
        summary.add_row(result.tier, *map(str, numbers), "[green]ok" if result.good else "[bold red]failed")
    console.Console().print(summary)
    passed, failed, skipped = (sum(getattr(one, key) for one in results) for key in ("passed", "failed", "skipped"))
    print(f"{passed} passed, {failed} failed, {skipped} skipped", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
