"""A cache is what the server has, and stays so whatever happens to its watch."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest
import structlog

from provisioner import metrics
from provisioner.kube import cache, client, objects
from tests.fakes import apiserver, clock
from tests.unit.kube import conftest

Effect = apiserver.Effect
Fault = apiserver.Fault
Claims = cache.Cache[objects.PersistentVolumeClaim]


class Changes:
    """A subscriber that keeps what it was told."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []

    def __call__(self, old: objects.PersistentVolumeClaim | None, new: objects.PersistentVolumeClaim | None) -> None:
        known = new or old
        assert known is not None
        kind = "added" if old is None else "deleted" if new is None else "changed"
        self.heard.append((kind, known.metadata.name))


@contextlib.asynccontextmanager
async def running(subject: Claims) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(subject.run())
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def make_cache(kube: client.Client, registry: metrics.Metrics, time: clock.FakeClock) -> Callable[..., Claims]:
    def make(**options: str) -> Claims:
        return cache.Cache(kube, objects.CLAIMS, metrics=registry, time=time, chance=lambda: 1.0, **options)

    return make


@pytest.fixture
async def claims(api: apiserver.FakeApiServer, make_cache: Callable[..., Claims]) -> AsyncIterator[Claims]:
    """A cache that is synced and whose watch is open."""
    subject = make_cache()
    async with running(subject):
        await api.wait_for(lambda: api.watching == 1)
        yield subject


def _restarts(registry: metrics.Metrics, reason: str) -> float:
    labels = {"kind": "PersistentVolumeClaim", "reason": reason}
    return registry.registry.get_sample_value("provisioner_watch_restarts_total", labels) or 0


def _names(subject: Claims) -> list[str]:
    return sorted(claim.metadata.name for claim in subject.values())


async def _elapse(api: apiserver.FakeApiServer, time: clock.FakeClock, condition: Callable[[], object]) -> None:
    """Let the pauses pass as they come, until the condition holds."""

    def look() -> object:
        time.advance(30)
        return condition()

    await api.wait_for(look)


async def test_a_long_list_comes_in_pages_and_is_told_before_the_cache_counts_as_synced(
    api: apiserver.FakeApiServer, make_cache: Callable[..., Claims], make_claim: conftest.MakeClaim
) -> None:
    for number in range(1001):
        make_claim(f"c{number}")
    subject, changes = make_cache(), Changes()
    subject.subscribe(changes)
    async with running(subject):
        await subject.synced.wait()
        assert (len(subject), len(changes.heard), api.count("list")) == (1001, 1001, 3)


async def test_changes_are_told_in_order_with_what_was_before(
    api: apiserver.FakeApiServer, claims: Claims, make_claim: conftest.MakeClaim
) -> None:
    changes = Changes()
    claims.subscribe(changes)
    make_claim("a")
    make_claim("b")
    api.patch(objects.CLAIMS, "a", {"metadata": {"labels": {"x": "y"}}}, "default")
    api.delete(objects.CLAIMS, "b", "default")
    await api.wait_for(lambda: len(changes.heard) == 4)
    assert changes.heard == [("added", "a"), ("added", "b"), ("changed", "a"), ("deleted", "b")]


async def test_a_late_subscriber_is_told_what_is_there(
    api: apiserver.FakeApiServer, claims: Claims, make_claim: conftest.MakeClaim
) -> None:
    make_claim("a")
    await api.wait_for(lambda: claims.get("default/a"))
    changes = Changes()
    claims.subscribe(changes)
    assert changes.heard == [("added", "a")]


async def test_a_subscriber_that_fails_keeps_no_news_from_the_others(
    api: apiserver.FakeApiServer, claims: Claims, make_claim: conftest.MakeClaim
) -> None:
    def failing(old: object, new: object) -> None:
        raise ValueError

    changes = Changes()
    claims.subscribe(failing)
    claims.subscribe(changes)
    with structlog.testing.capture_logs() as logs:
        make_claim("a")
        await api.wait_for(lambda: changes.heard)
    assert [(log["event"], log["object"]) for log in logs] == [("a subscriber failed", "default/a")]


async def test_a_selection_follows_the_labels(
    api: apiserver.FakeApiServer, make_cache: Callable[..., Claims], make_claim: conftest.MakeClaim
) -> None:
    make_claim("a", labels={"app": "web"})
    make_claim("b")
    subject = make_cache(label_selector="app=web")
    async with running(subject):
        await api.wait_for(lambda: api.watching == 1)
        assert _names(subject) == ["a"]
        api.patch(objects.CLAIMS, "b", {"metadata": {"labels": {"app": "web"}}}, "default")
        api.patch(objects.CLAIMS, "a", {"metadata": {"labels": {"app": "db"}}}, "default")
        await api.wait_for(lambda: _names(subject) == ["b"])


async def test_an_index_follows_its_objects(
    api: apiserver.FakeApiServer, claims: Claims, make_claim: conftest.MakeClaim
) -> None:
    claims.add_index("volume", lambda claim: [claim.spec.volume_name] if claim.spec.volume_name else [])
    make_claim("a")
    api.patch(objects.CLAIMS, "a", {"spec": {"volumeName": "pvc-1"}}, "default")
    await api.wait_for(lambda: claims.by_index("volume", "pvc-1"))
    assert [claim.metadata.name for claim in claims.by_index("volume", "pvc-1")] == ["a"]
    api.delete(objects.CLAIMS, "a", "default")
    await api.wait_for(lambda: not claims.by_index("volume", "pvc-1"))


async def test_a_watch_that_the_server_closes_is_taken_up_at_once_where_it_ended(
    api: apiserver.FakeApiServer,
    claims: Claims,
    time: clock.FakeClock,
    registry: metrics.Metrics,
    make_claim: conftest.MakeClaim,
) -> None:
    make_claim("a")
    await api.wait_for(lambda: claims.get("default/a"))
    seen = str(api.version)
    api.close_watches()
    await api.wait_for(lambda: api.count("watch") == 2)
    assert (api.requests[-1].params["resourceVersion"], api.count("list"), time.slept) == (seen, 1, [])
    make_claim("b")
    await api.wait_for(lambda: claims.get("default/b"))
    assert _restarts(registry, "closed") == 1


async def test_a_bookmark_moves_the_place_where_the_watch_is_taken_up(
    api: apiserver.FakeApiServer, claims: Claims, time: clock.FakeClock
) -> None:
    api.create(objects.VOLUMES, {"metadata": {"name": "of-another-kind"}})
    time.advance(1)
    api.bookmark()
    await api.wait_for(lambda: claims.age == 0)
    bookmarked = str(api.version)
    api.close_watches()
    await api.wait_for(lambda: api.count("watch") == 2)
    assert api.requests[-1].params["resourceVersion"] == bookmarked


async def test_a_watch_whose_connection_breaks_is_taken_up_after_a_pause(
    api: apiserver.FakeApiServer,
    claims: Claims,
    time: clock.FakeClock,
    registry: metrics.Metrics,
    make_claim: conftest.MakeClaim,
) -> None:
    api.reset_watches()
    await api.wait_for(lambda: time.slept)
    make_claim("a")
    await _elapse(api, time, lambda: claims.get("default/a"))
    assert (time.slept, api.count("list"), _restarts(registry, "connection")) == ([0.2], 1, 1)


@pytest.mark.parametrize("as_status", [True, False])
async def test_a_forgotten_version_is_listed_anew_and_the_differences_are_told(
    api: apiserver.FakeApiServer,
    claims: Claims,
    time: clock.FakeClock,
    registry: metrics.Metrics,
    make_claim: conftest.MakeClaim,
    *,
    as_status: bool,
) -> None:
    api.expired_as_status = as_status
    changes = Changes()
    claims.subscribe(changes)
    for name in ("gone", "kept", "changed"):
        make_claim(name)
    await api.wait_for(lambda: len(claims) == 3)
    changes.heard.clear()
    api.faults.add(Fault(verb="watch", effect=Effect.RESET))
    api.reset_watches()
    await api.wait_for(lambda: api.watching == 0)
    api.delete(objects.CLAIMS, "gone", "default")
    make_claim("new")
    api.patch(objects.CLAIMS, "changed", {"metadata": {"labels": {"x": "y"}}}, "default")
    api.compact()
    await _elapse(api, time, lambda: api.watching == 1)
    assert changes.heard == [("changed", "changed"), ("added", "new"), ("deleted", "gone")]
    assert _restarts(registry, "expired") == 1


@pytest.mark.parametrize("effect", [Effect.PARTIAL, Effect.GARBAGE])
async def test_a_line_that_cannot_be_read_leads_to_a_new_list(
    api: apiserver.FakeApiServer,
    claims: Claims,
    time: clock.FakeClock,
    registry: metrics.Metrics,
    make_claim: conftest.MakeClaim,
    *,
    effect: Effect,
) -> None:
    api.faults.add(Fault(verb="watch", effect=effect))
    api.close_watches()
    make_claim("a")
    await _elapse(api, time, lambda: _restarts(registry, "malformed") and api.watching == 1)
    assert (_names(claims), api.count("list"), _restarts(registry, "malformed")) == (["a"], 2, 1)


async def test_a_server_that_restarts_is_followed_on(
    api: apiserver.FakeApiServer, claims: Claims, time: clock.FakeClock, make_claim: conftest.MakeClaim
) -> None:
    await api.stop()
    await api.wait_for(lambda: time.slept)
    make_claim("made-while-away")
    await api.start()
    await _elapse(api, time, lambda: claims.get("default/made-while-away"))
    assert api.count("list") == 1


async def test_pauses_grow_to_half_a_minute_while_it_fails(
    api: apiserver.FakeApiServer, claims: Claims, time: clock.FakeClock
) -> None:
    api.faults.add(Fault(verb="watch", times=10, status=503))
    api.reset_watches()
    await _elapse(api, time, lambda: len(time.slept) == 11)
    assert time.slept[:4] == [0.2, 0.4, 0.8, 1.6]
    assert time.slept[-2:] == [30.0, 30.0]


async def test_a_watch_that_is_closed_at_once_again_and_again_is_a_failure(
    api: apiserver.FakeApiServer, make_cache: Callable[..., Claims], time: clock.FakeClock
) -> None:
    subject = make_cache()
    async with running(subject):
        await api.wait_for(lambda: api.watching == 1)
        api.close_watches()
        await api.wait_for(lambda: time.slept == [0.2])


async def test_an_interruption_is_said_once_and_its_end_too(
    api: apiserver.FakeApiServer, claims: Claims, time: clock.FakeClock, make_claim: conftest.MakeClaim
) -> None:
    api.forbidden.add(("watch", "persistentvolumeclaims"))
    with structlog.testing.capture_logs() as logs:
        api.close_watches()
        await _elapse(api, time, lambda: len(time.slept) == 5)
        api.forbidden.clear()
        make_claim("a")
        await _elapse(api, time, lambda: claims.get("default/a"))
    assert sum("cannot watch resource" in str(log.get("error")) for log in logs) == 1
    assert logs[-1]["event"] == "the watch works again"


async def test_a_cache_without_permission_waits_until_it_is_granted(
    api: apiserver.FakeApiServer,
    make_cache: Callable[..., Claims],
    time: clock.FakeClock,
    make_claim: conftest.MakeClaim,
) -> None:
    make_claim("a")
    api.forbidden.add(("list", "persistentvolumeclaims"))
    subject = make_cache()
    async with running(subject):
        await api.wait_for(lambda: time.slept)
        assert not subject.synced.is_set()
        api.forbidden.clear()
        await _elapse(api, time, subject.synced.is_set)
        assert _names(subject) == ["a"]


async def test_pages_that_expire_are_listed_in_one_piece(
    api: apiserver.FakeApiServer, make_cache: Callable[..., Claims], make_claim: conftest.MakeClaim
) -> None:
    for number in range(501):
        make_claim(f"c{number}")
    api.faults.add(Fault(verb="list", nth=2, status=410, reason="Expired"))
    subject = make_cache()
    async with running(subject):
        await subject.synced.wait()
    assert [request.params.get("limit") for request in api.requests if request.verb == "list"] == ["500", "500", "0"]
    assert len(subject) == 501


async def test_the_answer_of_a_write_is_seen_at_once(
    api: apiserver.FakeApiServer, kube: client.Client, claims: Claims, make_claim: conftest.MakeClaim
) -> None:
    make_claim("a")
    await api.wait_for(lambda: claims.get("default/a"))
    changes = Changes()
    claims.subscribe(changes)
    written = await kube.patch(objects.CLAIMS, "a", {"spec": {"volumeName": "pvc-1"}}, namespace="default")
    claims.observe(written)
    found = claims.get("default/a")
    assert found is not None
    assert found.spec.volume_name == "pvc-1"
    make_claim("b")
    await api.wait_for(lambda: claims.get("default/b"))
    assert changes.heard == [("added", "a"), ("changed", "a"), ("added", "b")]


async def test_the_answer_of_an_older_write_changes_nothing(
    api: apiserver.FakeApiServer, kube: client.Client, claims: Claims, make_claim: conftest.MakeClaim
) -> None:
    make_claim("a")
    written = await kube.patch(objects.CLAIMS, "a", {"metadata": {"labels": {"x": "old"}}}, namespace="default")
    api.patch(objects.CLAIMS, "a", {"metadata": {"labels": {"x": "new"}}}, "default")
    await api.wait_for(lambda: (found := claims.get("default/a")) and found.metadata.labels == {"x": "new"})
    claims.observe(written)
    found = claims.get("default/a")
    assert found is not None
    assert found.metadata.labels == {"x": "new"}


async def test_the_answer_of_a_write_does_not_bring_back_what_was_deleted_since(
    api: apiserver.FakeApiServer, kube: client.Client, claims: Claims, make_claim: conftest.MakeClaim
) -> None:
    make_claim("a")
    written = await kube.patch(objects.CLAIMS, "a", {"metadata": {"labels": {"x": "y"}}}, namespace="default")
    await api.wait_for(lambda: claims.get("default/a"))
    api.delete(objects.CLAIMS, "a", "default")
    await api.wait_for(lambda: not len(claims))
    claims.observe(written)
    assert claims.get("default/a") is None


async def test_a_server_with_an_older_history_is_listed_anew(
    api: apiserver.FakeApiServer,
    claims: Claims,
    time: clock.FakeClock,
    registry: metrics.Metrics,
    make_claim: conftest.MakeClaim,
) -> None:
    old = api.version
    make_claim("before")
    make_claim("lost")
    await api.wait_for(lambda: len(claims) == 2)
    api.delete(objects.CLAIMS, "lost", "default")
    await api.wait_for(lambda: len(claims) == 1)
    api.restore(old)
    api.close_watches()
    await api.wait_for(lambda: api.count("watch") == 2 and api.watching == 1)
    api.bookmark()
    await _elapse(api, time, lambda: _restarts(registry, "history") == 1 and api.count("list") == 2)
    make_claim("after")
    await _elapse(api, time, lambda: claims.get("default/after"))


async def test_health_needs_a_first_list_and_a_word_now_and_then(
    api: apiserver.FakeApiServer, make_cache: Callable[..., Claims], time: clock.FakeClock
) -> None:
    subject = make_cache()
    assert not subject.healthy(180)
    async with running(subject):
        await api.wait_for(lambda: api.watching == 1)
        assert subject.healthy(180)
        time.advance(181)
        assert (subject.age, subject.healthy(180)) == (181, False)
        api.bookmark()
        await api.wait_for(lambda: subject.healthy(180))


async def test_a_burst_of_changes_leaves_other_tasks_their_turn(
    api: apiserver.FakeApiServer, claims: Claims, make_claim: conftest.MakeClaim
) -> None:
    for number in range(2000):
        make_claim(f"c{number}")
    sizes = set()
    while len(claims) < 2000:
        sizes.add(len(claims))
        await asyncio.sleep(0)
    assert len(sizes) >= 10


async def test_a_line_of_a_megabyte_is_read(
    api: apiserver.FakeApiServer, claims: Claims, make_claim: conftest.MakeClaim
) -> None:
    make_claim("a", annotations={"big": "x" * 2**20})
    await api.wait_for(lambda: claims.get("default/a"))
    found = claims.get("default/a")
    assert found is not None
    assert len(found.metadata.annotations["big"]) == 2**20


async def test_a_watch_asks_for_bookmarks_and_an_end_within_ten_minutes(
    api: apiserver.FakeApiServer, claims: Claims
) -> None:
    asked = api.requests[-1].params
    assert (asked["allowWatchBookmarks"], asked["timeoutSeconds"]) == ("true", "600")


@pytest.mark.parametrize("before_headers", [True, False])
async def test_a_watch_that_falls_silent_is_taken_up_anew(
    api: apiserver.FakeApiServer, registry: metrics.Metrics, time: clock.FakeClock, *, before_headers: bool
) -> None:
    if before_headers:
        api.faults.add(Fault(verb="watch", effect=Effect.HANG))
    kube = client.Client(api.source(), watch_idle=0.05)
    subject = cache.Cache(kube, objects.CLAIMS, metrics=registry, time=time)
    async with running(subject):
        await _elapse(api, time, lambda: api.count("watch") == 2)
        assert _restarts(registry, "connection") == 1
    await kube.close()
