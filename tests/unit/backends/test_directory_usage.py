"""Measuring volumes: one walk at a time, and answers that are kept for a while."""

import os
import threading
from pathlib import Path

import pytest

from provisioner import errors, model
from provisioner.backends.directory import usage

VOLUME = model.VolumeId("d1-a")


class Clock:
    """Moves on by `tick` seconds whenever it is read."""

    def __init__(self, tick: float = 0.0) -> None:
        self.now, self.tick = 0.0, tick

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(bytes(8192))
    return tmp_path


def _used(meter: usage.Meter, tree: Path, volume: model.VolumeId = VOLUME) -> int:
    fd = os.open(tree, os.O_RDONLY)
    try:
        return meter.used(volume, fd)
    finally:
        os.close(fd)


def test_an_answer_is_kept_for_half_a_minute(tree: Path) -> None:
    clock = Clock()
    meter = usage.Meter(clock=clock)
    before = _used(meter, tree)
    (tree / "more").write_bytes(bytes(8192))
    clock.now = 29
    assert _used(meter, tree) == before
    clock.now = 31
    assert _used(meter, tree) >= before + 8192


def test_the_answer_of_a_long_walk_is_kept_longer(tree: Path) -> None:
    clock = Clock(tick=10)
    meter = usage.Meter(clock=clock)
    before = _used(meter, tree)
    clock.tick = 0
    (tree / "more").write_bytes(bytes(8192))
    clock.now += 190
    assert _used(meter, tree) == before
    clock.now += 20
    assert _used(meter, tree) > before


def test_who_asks_during_a_walk_gets_the_last_answer_or_is_told_to_come_again(tree: Path) -> None:
    reached, go_on, clock = threading.Event(), threading.Event(), Clock()
    looked: list[bool] = []

    def read_clock() -> float:
        if threading.current_thread() is not threading.main_thread():
            # The first look is for an old answer; at the second the walk has begun.
            if looked:
                reached.set()
                assert go_on.wait(30)
            looked.append(True)
        return clock.now

    def walk() -> threading.Thread:
        looked.clear()
        reached.clear()
        go_on.clear()
        walker = threading.Thread(target=_used, args=(meter, tree))
        walker.start()
        return walker

    meter = usage.Meter(clock=read_clock)
    first = walk()
    assert reached.wait(30)
    with pytest.raises(errors.OperationPendingError, match="still being measured"):
        _used(meter, tree)
    go_on.set()
    first.join(30)
    before = _used(meter, tree)
    clock.now = 31
    (tree / "more").write_bytes(bytes(8192))
    second = walk()
    assert reached.wait(30)
    assert _used(meter, tree) == before
    go_on.set()
    second.join(30)
    assert _used(meter, tree) > before


def test_a_walk_that_fails_is_tried_again(tree: Path) -> None:
    meter = usage.Meter(clock=Clock())
    with pytest.raises(OSError, match="Bad file"):
        meter.used(VOLUME, -1)
    assert _used(meter, tree) >= 8192
