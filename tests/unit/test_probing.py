"""`/readyz` has the storage's own word in time, also where the storage takes longer than a probe waits."""

import asyncio

import pytest

from provisioner import errors, probing


class Storage:
    """Answers, fails, or keeps everybody waiting, as it is told."""

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.answers = asyncio.Event()
        self.answers.set()
        self.looks = 0

    async def probe(self) -> None:
        self.looks += 1
        await self.answers.wait()
        if self.fault is not None:
            raise self.fault


async def test_a_storage_that_works_is_ready() -> None:
    await probing.Probing(Storage().probe).check()


async def test_what_is_wrong_is_said_until_it_is_mended() -> None:
    storage = Storage()
    checked = probing.Probing(storage.probe)
    storage.fault = errors.BackendUnavailableError("no monitor answers")
    with pytest.raises(errors.BackendUnavailableError, match="no monitor answers"):
        await checked.check()
    storage.fault = None
    await checked.check()


async def test_a_storage_that_does_not_answer_is_not_ready_and_is_looked_at_once() -> None:
    storage = Storage()
    storage.answers.clear()
    checked = probing.Probing(storage.probe, patience=0.01)
    for _ in range(2):
        with pytest.raises(errors.BackendUnavailableError, match="has not answered for"):
            await checked.check()
    assert storage.looks == 1
    storage.answers.set()


async def test_while_a_look_takes_long_the_last_one_s_finding_is_said() -> None:
    storage = Storage()
    checked = probing.Probing(storage.probe, patience=0.01)
    storage.fault = errors.AccessDeniedError("the key is wrong")
    with pytest.raises(errors.AccessDeniedError):
        await checked.check()
    storage.answers.clear()
    with pytest.raises(errors.AccessDeniedError, match="the key is wrong"):
        await checked.check()
    storage.answers.set()


async def test_a_storage_that_worked_and_does_not_answer_now_is_not_ready() -> None:
    storage = Storage()
    checked = probing.Probing(storage.probe, patience=0.01)
    await checked.check()
    storage.answers.clear()
    with pytest.raises(errors.BackendUnavailableError, match="has not answered for"):
        await checked.check()
    storage.answers.set()


async def test_an_unexpected_failure_names_its_kind_and_nothing_else() -> None:
    storage = Storage()
    storage.fault = RuntimeError("secret")
    with pytest.raises(errors.BackendUnavailableError) as raised:
        await probing.Probing(storage.probe).check()
    assert "RuntimeError" in str(raised.value)
    assert "secret" not in str(raised.value)
