"""Events: said once, counted, rationed, and in nobody's way."""

import asyncio
import contextlib
import datetime
from collections.abc import AsyncIterator, Callable

import pytest
import structlog

from provisioner.kube import client, events, objects
from tests.fakes import apiserver, clock

Effect = apiserver.Effect
Fault = apiserver.Fault

_CLAIM = objects.ObjectReference(
    api_version="v1", kind="PersistentVolumeClaim", namespace="shop", name="data", uid="u-1", resource_version="5"
)
_VOLUME = objects.ObjectReference(api_version="v1", kind="PersistentVolume", name="pvc-1", uid="u-2")
_NOON = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)


@pytest.fixture
def make_recorder(kube: client.Client, time: clock.FakeClock) -> Callable[[], events.Recorder]:
    def make() -> events.Recorder:
        def now() -> datetime.datetime:
            return _NOON + datetime.timedelta(seconds=time.time() - 1000)

        return events.Recorder(kube, component="directory.csi.provisioner", instance="node-1", time=time, now=now)

    return make


@pytest.fixture
async def recorder(make_recorder: Callable[[], events.Recorder]) -> AsyncIterator[events.Recorder]:
    made = make_recorder()
    task = asyncio.create_task(made.run())
    yield made
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_an_event_says_who_said_what_about_whom(api: apiserver.FakeApiServer, recorder: events.Recorder) -> None:
    recorder.record(_CLAIM, "Warning", "ProvisioningFailed", "the pool is full")
    await recorder.flush(5)
    (event,) = api.list(objects.EVENTS)
    assert event["metadata"]["namespace"] == "shop"
    assert event["metadata"]["name"].startswith("data.")
    assert {name: event[name] for name in event if name not in {"metadata", "apiVersion", "kind"}} == {
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": "shop",
            "name": "data",
            "uid": "u-1",
        },
        "type": "Warning",
        "reason": "ProvisioningFailed",
        "message": "the pool is full",
        "count": 1,
        "firstTimestamp": "2026-01-01T12:00:00Z",
        "lastTimestamp": "2026-01-01T12:00:00Z",
        "source": {"component": "directory.csi.provisioner", "host": "node-1"},
        "reportingComponent": "directory.csi.provisioner",
        "reportingInstance": "node-1",
    }


@pytest.fixture
async def giving_way(kube: client.Client, time: clock.FakeClock) -> AsyncIterator[tuple[events.Recorder, list[bool]]]:
    """A recorder in a process that has much to do while the list is not empty."""
    busy = [True]
    made = events.Recorder(kube, component="driver", instance="here", busy=lambda: bool(busy), time=time)
    task = asyncio.create_task(made.run())
    yield made, busy
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_a_normal_event_waits_for_urgent_work_and_a_warning_does_not(
    api: apiserver.FakeApiServer, giving_way: tuple[events.Recorder, list[bool]], time: clock.FakeClock
) -> None:
    recorder, busy = giving_way
    for number in range(3):
        recorder.record(_CLAIM, "Normal", "ProvisioningSucceeded", f"volume {number}")
    await api.wait_for(lambda: time.pending)
    assert api.list(objects.EVENTS) == []
    recorder.record(_CLAIM, "Warning", "ProvisioningFailed", "the pool is full")
    time.advance(1)
    await api.wait_for(lambda: time.pending and len(api.list(objects.EVENTS)) == 2)
    # The one that was in hand, and the Warning before all others.
    assert {event["message"] for event in api.list(objects.EVENTS)} == {"volume 0", "the pool is full"}
    busy.clear()
    time.advance(1)
    await recorder.flush(5)
    assert len(api.list(objects.EVENTS)) == 4


async def test_a_normal_event_waits_for_no_more_than_a_while(
    api: apiserver.FakeApiServer, giving_way: tuple[events.Recorder, list[bool]], time: clock.FakeClock
) -> None:
    recorder, _ = giving_way
    recorder.record(_CLAIM, "Normal", "ProvisioningSucceeded", "volume 1")
    await api.wait_for(lambda: time.pending)
    time.advance(16)
    await api.wait_for(lambda: len(api.list(objects.EVENTS)) == 1)


async def test_at_the_end_no_event_waits(
    api: apiserver.FakeApiServer, giving_way: tuple[events.Recorder, list[bool]], time: clock.FakeClock
) -> None:
    recorder, _ = giving_way
    recorder.record(_CLAIM, "Normal", "ProvisioningSucceeded", "volume 1")
    await api.wait_for(lambda: time.pending)
    flushed = asyncio.create_task(recorder.flush(5))
    await asyncio.sleep(0)
    time.advance(1)
    await flushed
    assert len(api.list(objects.EVENTS)) == 1


async def test_an_event_about_a_cluster_scoped_object_is_kept_in_default(
    api: apiserver.FakeApiServer, recorder: events.Recorder
) -> None:
    recorder.record(_VOLUME, "Warning", "VolumeFailedDelete", "it is mounted")
    await recorder.flush(5)
    assert [event["metadata"]["namespace"] for event in api.list(objects.EVENTS)] == ["default"]


async def test_the_same_again_is_counted(
    api: apiserver.FakeApiServer, recorder: events.Recorder, time: clock.FakeClock
) -> None:
    recorder.record(_CLAIM, "Normal", "Provisioning", "on it")
    time.advance(90)
    recorder.record(_CLAIM, "Normal", "Provisioning", "on it")
    recorder.record(_CLAIM, "Normal", "Provisioning", "on it")
    await recorder.flush(5)
    (event,) = api.list(objects.EVENTS)
    assert (event["count"], event["lastTimestamp"]) == (3, "2026-01-01T12:01:30Z")


async def test_a_change_of_the_object_makes_no_other_event(
    api: apiserver.FakeApiServer, recorder: events.Recorder
) -> None:
    for version in ("5", "6"):
        about = objects.ObjectReference(kind="Node", name="n", uid="u", resource_version=version)
        recorder.record(about, "Normal", "R", "m")
    await recorder.flush(5)
    assert [event["count"] for event in api.list(objects.EVENTS)] == [2]


async def test_another_message_type_reason_or_object_is_another_event(
    api: apiserver.FakeApiServer, recorder: events.Recorder
) -> None:
    recorder.record(_CLAIM, "Normal", "R", "m")
    recorder.record(_CLAIM, "Normal", "R", "n")
    recorder.record(_CLAIM, "Normal", "S", "m")
    recorder.record(_CLAIM, "Warning", "R", "m")
    recorder.record(_VOLUME, "Normal", "R", "m")
    await recorder.flush(5)
    assert [event["count"] for event in api.list(objects.EVENTS)] == [1] * 5


async def test_the_count_goes_on_after_a_restart(
    api: apiserver.FakeApiServer, recorder: events.Recorder, make_recorder: Callable[[], events.Recorder]
) -> None:
    recorder.record(_CLAIM, "Normal", "R", "m")
    await recorder.flush(5)
    second = make_recorder()
    second.record(_CLAIM, "Normal", "R", "m")
    task = asyncio.create_task(second.run())
    await second.flush(5)
    task.cancel()
    assert [event["count"] for event in api.list(objects.EVENTS)] == [2]


async def test_an_event_that_the_server_has_forgotten_begins_anew(
    api: apiserver.FakeApiServer, recorder: events.Recorder
) -> None:
    recorder.record(_CLAIM, "Normal", "R", "m")
    await recorder.flush(5)
    api.delete(objects.EVENTS, api.list(objects.EVENTS)[0]["metadata"]["name"], "shop")
    recorder.record(_CLAIM, "Normal", "R", "m")
    await recorder.flush(5)
    assert [event["count"] for event in api.list(objects.EVENTS)] == [1]


async def test_a_loop_that_goes_wrong_is_rationed_per_object(
    api: apiserver.FakeApiServer, recorder: events.Recorder, time: clock.FakeClock
) -> None:
    for number in range(1000):
        recorder.record(_CLAIM, "Warning", "R", f"attempt {number}")
    recorder.record(_VOLUME, "Warning", "R", "m")
    await recorder.flush(5)
    written = len(api.list(objects.EVENTS))
    time.advance(300)
    recorder.record(_CLAIM, "Warning", "R", "later")
    recorder.record(_CLAIM, "Warning", "R", "too soon")
    await recorder.flush(5)
    assert (written, len(api.list(objects.EVENTS)), recorder.dropped) == (26, 27, 976)


async def test_a_full_queue_drops_instead_of_waiting(make_recorder: Callable[[], events.Recorder]) -> None:
    recorder = make_recorder()
    for number in range(5001):
        recorder.record(objects.ObjectReference(kind="Node", name="n", uid=str(number)), "Normal", "R", "m")
    assert recorder.dropped == 1


async def test_a_message_too_long_for_the_server_is_cut(
    api: apiserver.FakeApiServer, recorder: events.Recorder
) -> None:
    recorder.record(_CLAIM, "Normal", "R", "ü" * 5000)
    await recorder.flush(5)
    assert api.list(objects.EVENTS)[0]["message"] == "ü" * 510 + "…"


async def test_an_event_about_the_longest_name_has_a_name_that_is_allowed(
    api: apiserver.FakeApiServer, recorder: events.Recorder
) -> None:
    name = f"{'x' * 235}.{'y' * 17}"
    recorder.record(objects.ObjectReference(kind="Node", name=name, uid="u"), "Normal", "R", "m")
    await recorder.flush(5)
    made = api.list(objects.EVENTS)[0]["metadata"]["name"]
    assert (len(made) <= 253, ".." in made, made.startswith("x" * 235)) == (True, False, True)


async def test_a_missing_permission_is_said_once(api: apiserver.FakeApiServer, recorder: events.Recorder) -> None:
    api.forbidden.add(("create", "events"))
    with structlog.testing.capture_logs() as logs:
        for number in range(3):
            recorder.record(_CLAIM, "Normal", "R", str(number))
        await recorder.flush(5)
    assert [log["event"] for log in logs] == ["events are not recorded"]


async def test_a_lost_event_stops_no_later_one(api: apiserver.FakeApiServer, recorder: events.Recorder) -> None:
    api.faults.add(Fault(verb="create", effect=Effect.RESET))
    recorder.record(_CLAIM, "Normal", "R", "lost")
    recorder.record(_CLAIM, "Normal", "R", "kept")
    await recorder.flush(5)
    assert [event["message"] for event in api.list(objects.EVENTS)] == ["kept"]


async def test_a_count_whose_answer_was_lost_is_read_again(
    api: apiserver.FakeApiServer, recorder: events.Recorder
) -> None:
    api.faults.add(Fault(verb="patch", effect=Effect.RESET, after=True))
    for _ in range(3):
        recorder.record(_CLAIM, "Normal", "R", "m")
    await recorder.flush(5)
    assert [event["count"] for event in api.list(objects.EVENTS)] == [3]


async def test_a_flush_does_not_wait_for_ever(make_recorder: Callable[[], events.Recorder]) -> None:
    recorder = make_recorder()
    recorder.record(_CLAIM, "Normal", "R", "nobody writes it")
    with structlog.testing.capture_logs() as logs:
        await recorder.flush(0.01)
    assert [(log["event"], log["count"]) for log in logs] == [("events left unwritten", 1)]


async def test_so_many_normal_events_that_some_are_dropped_leave_room_for_a_warning(
    api: apiserver.FakeApiServer, make_recorder: Callable[[], events.Recorder]
) -> None:
    recorder = make_recorder()
    for number in range(5001):
        claim = objects.ObjectReference(api_version="v1", kind="PersistentVolumeClaim", uid=f"u-{number}")
        recorder.record(claim, "Normal", "Provisioning", "at work")
    assert recorder.dropped == 1
    recorder.record(_CLAIM, "Warning", "ProvisioningFailed", "the pool is full")
    task = asyncio.create_task(recorder.run())
    await api.wait_for(lambda: api.list(objects.EVENTS))
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert api.list(objects.EVENTS)[0]["reason"] == "ProvisioningFailed"
    assert recorder.dropped == 1
