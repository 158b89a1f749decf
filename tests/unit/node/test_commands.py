"""How programs are run."""

import os
import time

import pytest

from provisioner.backends import commands

SYSTEM = commands.System()


def test_a_program_that_says_no_is_quoted_with_its_status_and_no_secret() -> None:
    with pytest.raises(commands.CommandFailedError) as caught:
        SYSTEM.run(["sh", "-c", "echo wrong key: AQB== >&2; exit 3"], redact=("AQB==",))
    assert caught.value.message == "sh failed with status 3: wrong key: ***"
    assert caught.value.code == 3


def test_of_a_long_complaint_the_end_is_shown() -> None:
    with pytest.raises(commands.CommandFailedError) as caught:
        SYSTEM.run(["sh", "-c", "seq 1000 >&2; exit 1"])
    assert caught.value.message.endswith("999 1000")
    assert len(caught.value.message) < 500


def test_a_status_that_is_expected_is_no_failure() -> None:
    assert SYSTEM.run(["sh", "-c", "echo out; exit 2"], accept=(0, 2)) == commands.Finished(2, "out\n")


def test_a_program_that_takes_too_long_is_killed_with_all_that_it_started() -> None:
    start = time.monotonic()
    with pytest.raises(commands.CommandTimedOutError, match=r"sh had not ended after 0\.2 s"):
        SYSTEM.run(["sh", "-c", "sleep 60 & sleep 60"], timeout=0.2)
    assert time.monotonic() - start < 5


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(commands.ProgramMissingError, match="no-such-program is not installed"):
        SYSTEM.run(["no-such-program"])


def test_a_program_sees_nothing_of_our_environment_and_cannot_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "AQB==")
    shown = SYSTEM.run(["sh", "-c", "env; cat"]).output
    assert "AQB==" not in shown
    assert "LC_ALL=C" in shown


def test_a_program_has_a_session_of_its_own() -> None:
    assert int(SYSTEM.run(["sh", "-c", "ps -o sid= -p $$"]).output) != os.getsid(0)
