"""What holds for every tier: a skip can be made a failure, and a failed test shows what its cluster said."""

from collections.abc import Generator

import pytest

from tests.harness import sandbox


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fail-on-skip",
        action="store_true",
        help="a test that is skipped fails the run: where everything has to be there, as in CI",
    )


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter is not None else []
    if skipped and exitstatus == pytest.ExitCode.OK and session.config.getoption("--fail-on-skip"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped and config.getoption("--fail-on-skip"):
        terminalreporter.line(f"ERROR: {len(skipped)} skipped, and here nothing may be skipped", red=True, bold=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            box = getattr(value, "sandbox", None)
            if isinstance(box, sandbox.Sandbox):
                report.sections.append(("the components of its cluster", box.tails(lines=15)))
                break
    return report
