"""The volume service: one piece of work per volume, which outlives an impatient caller."""

import asyncio
import contextlib

import pytest

from provisioner import errors, keylock, model, volumes, waiting
from tests.fakes import gate, memory_backend
from tests.fakes.directory_pools import RWO, request


@contextlib.asynccontextmanager
async def _service(backend: memory_backend.MemoryBackend, workers: int = 4):  # type: ignore[no-untyped-def]
    service = volumes.VolumeService(backend, workers=workers)
    try:
        yield service
    finally:
        await service.close()


async def test_a_second_create_of_a_name_is_told_what_runs_and_since_when() -> None:
    backend, held = memory_backend.MemoryBackend(), gate.Gate()
    backend.on("create", held.wait)
    async with _service(backend) as service:
        first = asyncio.create_task(service.create(request("pvc-1")))
        await held.reached()
        with pytest.raises(errors.OperationPendingError, match=r"creating volume pvc-1 .* since \d+\.\d s ago"):
            await service.create(request("pvc-1"))
        held.open()
        assert (await first).size == model.MIB


async def test_a_second_create_of_a_name_is_told_at_which_step_the_first_is_and_since_when() -> None:
    backend, held = memory_backend.MemoryBackend(), gate.Gate()

    def hang() -> None:
        with waiting.on("creating image x"):
            held.wait()

    backend.on("create", hang)
    async with _service(backend) as service:
        first = asyncio.create_task(service.create(request("pvc-1")))
        await held.reached()
        with pytest.raises(errors.OperationPendingError, match=r"ago: creating image x has taken \d+\.\d s so far;"):
            await service.create(request("pvc-1"))
        held.open()
        await first


async def test_creates_of_other_names_run_at_the_same_time() -> None:
    backend, held = memory_backend.MemoryBackend(), gate.Gate()
    backend.on("create", held.wait)
    async with _service(backend) as service:
        first = asyncio.create_task(service.create(request("pvc-1")))
        await held.reached()
        backend.mend("create")
        await service.create(request("pvc-2"))
        held.open()
        await first


async def test_a_cancelled_create_runs_to_its_end_and_keeps_its_lock_until_then() -> None:
    backend, held = memory_backend.MemoryBackend(), gate.Gate()
    backend.on("create", held.wait)
    async with _service(backend) as service:
        impatient = asyncio.create_task(service.create(request("pvc-1")))
        await held.reached()
        impatient.cancel()
        with pytest.raises(asyncio.CancelledError):
            await impatient
        with pytest.raises(errors.OperationPendingError):
            await service.create(request("pvc-1"))
        held.open()
        await service.close()
    assert len(backend.list(after=None, limit=10)) == 1


async def test_a_create_that_still_queues_is_dropped_with_its_caller() -> None:
    backend, held = memory_backend.MemoryBackend(), gate.Gate()
    backend.on("create", held.wait)
    async with _service(backend, workers=1) as service:
        running = asyncio.create_task(service.create(request("pvc-1")))
        await held.reached()
        queued = asyncio.create_task(service.create(request("pvc-2")))
        await asyncio.sleep(0)
        queued.cancel()
        with pytest.raises(asyncio.CancelledError):
            await queued
        held.open()
        await running
        assert (await service.create(request("pvc-2"))).size == model.MIB
    assert backend.calls["create"] == 2


async def test_looking_does_not_wait_behind_slow_creates() -> None:
    backend, held = memory_backend.MemoryBackend(), gate.Gate()
    made = backend.create(request("pvc-0"))
    backend.on("create", held.wait)
    async with _service(backend, workers=1) as service:
        slow = [asyncio.create_task(service.create(request(f"pvc-{number}"))) for number in range(1, 4)]
        await held.reached()
        async with asyncio.timeout(10):
            await service.probe()
            assert await service.get(made.id) == made
            assert await service.list(after=None, limit=1) == [made]
            assert await service.validate(made.id, (), {}) is None
            assert (await service.capacity(capabilities=(), parameters={}, topology=None)).total > 0
        held.open()
        await asyncio.gather(*slow)


async def test_probes_at_the_same_time_share_one() -> None:
    backend, held = memory_backend.MemoryBackend(), gate.Gate()
    backend.on("probe", held.wait)
    async with _service(backend) as service:
        probes = [asyncio.create_task(service.probe()) for _ in range(5)]
        await held.reached()
        held.open()
        await asyncio.gather(*probes)
        assert backend.calls["probe"] == 1
        await service.probe()
        assert backend.calls["probe"] == 2


async def test_a_probe_that_one_caller_leaves_answers_the_others() -> None:
    backend, held = memory_backend.MemoryBackend(), gate.Gate()
    backend.on("probe", held.wait)
    async with _service(backend) as service:
        first, second = asyncio.create_task(service.probe()), asyncio.create_task(service.probe())
        await held.reached()
        first.cancel()
        held.open()
        await second


async def test_a_failed_probe_says_why_and_the_next_one_may_pass() -> None:
    backend = memory_backend.MemoryBackend()
    backend.fail("probe", errors.BackendUnavailableError("unmounted"))
    async with _service(backend) as service:
        with pytest.raises(errors.BackendUnavailableError, match="unmounted"):
            await service.probe()
        backend.mend("probe")
        await service.probe()


async def test_a_delete_is_one_at_a_time_for_each_volume() -> None:
    backend, held = memory_backend.MemoryBackend(), gate.Gate()
    made = backend.create(request())
    backend.on("delete", held.wait)
    async with _service(backend) as service:
        first = asyncio.create_task(service.delete(made.id))
        await held.reached()
        with pytest.raises(errors.OperationPendingError, match=f"deleting volume {made.id}"):
            await service.delete(made.id)
        held.open()
        await first
        await service.delete(made.id)


async def test_closing_waits_for_what_has_begun_and_takes_no_more() -> None:
    backend, held = memory_backend.MemoryBackend(), gate.Gate()
    backend.on("created", held.wait)
    async with _service(backend) as service:
        creating = asyncio.create_task(service.create(request()))
        await held.reached()
        closing = asyncio.create_task(service.close())
        await asyncio.sleep(0)
        assert not closing.done()
        with pytest.raises(errors.BackendUnavailableError, match="shutting down"):
            await service.create(request("other"))
        held.open()
        await closing
        assert (await creating).size == model.MIB


async def test_an_error_frees_the_name() -> None:
    backend = memory_backend.MemoryBackend()
    backend.fail("create", errors.BackendUnavailableError("no"))
    async with _service(backend) as service:
        with pytest.raises(errors.BackendUnavailableError):
            await service.create(request())
        backend.mend("create")
        assert (await service.create(request())).size == model.MIB


def test_a_key_that_is_released_can_be_taken_again() -> None:
    now = 0.0
    locks = keylock.KeyLock(clock=lambda: now)
    first = locks.acquire("a", doing="making a")
    now = 2.5
    with pytest.raises(errors.OperationPendingError, match=r"making a is still running, since 2\.5 s ago"):
        locks.acquire("a", doing="making a again")
    locks.acquire("b", doing="making b")
    locks.release(first)
    locks.acquire("a", doing="making a once more")
    with pytest.raises(errors.OperationPendingError, match="making b"):
        locks.acquire("b", doing="making b again")


def test_a_key_is_shared_by_those_who_share_it_and_not_taken_alone_before_the_last_has_left() -> None:
    locks = keylock.KeyLock(clock=lambda: 0.0)
    first = locks.acquire("a", doing="copying a", shared=True)
    second = locks.acquire("a", doing="copying a, too", shared=True)
    locks.release(first)
    with pytest.raises(errors.OperationPendingError, match="copying a, too"):
        locks.acquire("a", doing="removing a")
    locks.release(second)
    locks.acquire("a", doing="removing a")
    with pytest.raises(errors.OperationPendingError, match="removing a"):
        locks.acquire("a", doing="copying a", shared=True)


FULL = memory_backend.FULL


async def _snapshot(service: volumes.VolumeService, source: model.VolumeId, name: str = "s") -> model.Snapshot:
    return await service.create_snapshot(model.SnapshotRequest(name=name, source=source))


async def test_a_source_is_not_deleted_while_it_is_copied() -> None:
    backend, held = memory_backend.MemoryBackend(features=FULL), gate.Gate()
    source = backend.create(request("source"))
    snapshot = backend.create_snapshot(model.SnapshotRequest(name="s", source=source.id))
    backend.on("create", held.wait)
    async with _service(backend) as service:
        copies = [
            asyncio.create_task(service.create(request("clone", source=source.id))),
            asyncio.create_task(service.create(request("restored", source=snapshot.id))),
        ]
        await held.reached()
        with pytest.raises(errors.OperationPendingError, match="creating volume clone"):
            await service.delete(source.id)
        with pytest.raises(errors.OperationPendingError, match="creating volume restored"):
            await service.delete_snapshot(snapshot.id)
        held.open()
        await asyncio.gather(*copies)
        await service.delete(source.id)
        await service.delete_snapshot(snapshot.id)


async def test_a_source_is_not_copied_while_it_is_deleted() -> None:
    backend, held = memory_backend.MemoryBackend(features=FULL), gate.Gate()
    source = backend.create(request("source"))
    backend.on("delete", held.wait)
    async with _service(backend) as service:
        deleting = asyncio.create_task(service.delete(source.id))
        await held.reached()
        with pytest.raises(errors.OperationPendingError, match="deleting volume"):
            await service.create(request("clone", source=source.id))
        with pytest.raises(errors.OperationPendingError, match="deleting volume"):
            await _snapshot(service, source.id)
        held.open()
        await deleting
        with pytest.raises(errors.VolumeNotFoundError):
            await service.create(request("clone", source=source.id))


async def test_a_refused_copy_leaves_its_name_free() -> None:
    backend, held = memory_backend.MemoryBackend(features=FULL), gate.Gate()
    source = backend.create(request("source"))
    backend.on("delete", held.wait)
    async with _service(backend) as service:
        deleting = asyncio.create_task(service.delete(source.id))
        await held.reached()
        with pytest.raises(errors.OperationPendingError):
            await service.create(request("clone", source=source.id))
        assert (await service.create(request("clone"))).source is None
        held.open()
        await deleting


async def test_one_source_is_copied_several_times_at_once() -> None:
    backend, held = memory_backend.MemoryBackend(features=FULL), gate.Gate()
    source = backend.create(request("source"))
    backend.on("create_snapshot", held.wait)
    async with _service(backend) as service:
        slow = asyncio.create_task(_snapshot(service, source.id, "slow"))
        await held.reached()
        backend.mend("create_snapshot")
        first = await _snapshot(service, source.id, "quick")
        restored = [service.create(request(f"restored-{number}", source=first.id)) for number in range(3)]
        assert len({volume.id for volume in await asyncio.gather(*restored)}) == 3
        held.open()
        assert (await slow).source == source.id


async def test_a_second_call_for_a_snapshot_is_told_what_runs() -> None:
    backend, held = memory_backend.MemoryBackend(features=FULL), gate.Gate()
    source = backend.create(request("source"))
    backend.on("create_snapshot", held.wait)
    async with _service(backend) as service:
        first = asyncio.create_task(_snapshot(service, source.id))
        await held.reached()
        with pytest.raises(errors.OperationPendingError, match=r"taking snapshot s of volume .* since \d+\.\d s ago"):
            await _snapshot(service, source.id)
        held.open()
        taken = await first
        assert await _snapshot(service, source.id) == taken


async def test_calls_that_change_one_volume_are_one_at_a_time() -> None:
    backend, held = memory_backend.MemoryBackend(features=FULL), gate.Gate()
    made = backend.create(request())
    backend.on("expand", held.wait)
    async with _service(backend) as service:
        growing = asyncio.create_task(service.expand(made.id, model.SizeRange(2 * model.MIB)))
        await held.reached()
        for other in (
            service.expand(made.id, model.SizeRange(3 * model.MIB)),
            service.publish(made.id, "node-1", RWO, read_only=False),
            service.unpublish(made.id, "node-1"),
            service.delete(made.id),
            _snapshot(service, made.id),
        ):
            with pytest.raises(errors.OperationPendingError, match=f"expanding volume {made.id}"):
                await other
        held.open()
        assert (await growing).size == 2 * model.MIB


async def test_what_the_backend_does_not_offer_is_refused() -> None:
    volume_id, snapshot_id = model.VolumeId("v"), model.SnapshotId("s")
    async with _service(memory_backend.MemoryBackend()) as service:
        for call in (
            service.expand(volume_id, model.SizeRange(1)),
            _snapshot(service, volume_id),
            service.delete_snapshot(snapshot_id),
            service.get_snapshot(snapshot_id),
            service.list_snapshots(source=None, after=None, limit=1),
            service.publish(volume_id, "node-1", RWO, read_only=False),
            service.unpublish(volume_id, "node-1"),
            service.condition(volume_id),
        ):
            with pytest.raises(errors.UnsupportedError):
                await call
