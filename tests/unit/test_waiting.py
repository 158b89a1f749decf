"""What is waited for can be read: by who comes second, and as a metric."""

import threading

from provisioner import metrics, waiting


def test_work_tells_the_innermost_step_and_nothing_between_steps() -> None:
    work = waiting.Work()
    seen: list[str] = []

    def steps() -> None:
        with waiting.on("restoring"):
            with waiting.on("cloning"):
                seen.append(str(work))
            seen.append(str(work))
        seen.append(str(work))

    work.context().run(steps)

    assert [text.partition(" has taken ")[0] for text in seen] == ["cloning", "restoring", ""]


def test_a_step_that_fails_is_over() -> None:
    work = waiting.Work()

    def step() -> None:
        with waiting.on("cloning"):
            raise OSError

    try:
        work.context().run(step)
    except OSError:
        assert str(work) == ""


def test_steps_of_other_work_are_not_told() -> None:
    work = waiting.Work()
    with waiting.on("purging"):
        assert str(work) == ""


def test_waits_are_counted_by_age() -> None:
    measured = metrics.Metrics()
    entered, leave = threading.Event(), threading.Event()

    def wait() -> None:
        with waiting.on("creating"):
            entered.set()
            leave.wait(10)

    def value(older_than: str) -> float | None:
        return measured.registry.get_sample_value("provisioner_waits_in_flight", {"older_than": older_than})

    before = value("0")
    thread = threading.Thread(target=wait)
    thread.start()
    entered.wait(10)
    during = (value("0"), value("60"))
    leave.set()
    thread.join()

    assert (before, *during, value("0")) == (0, 1, 0, 0)
