"""Snapshots, and volumes made from them and from other volumes, over a real socket."""

import datetime

import grpc
import pytest

from provisioner.generated import csi_pb2
from tests.fakes import csi_messages
from tests.unit.csi import conftest


async def test_a_snapshot_says_of_what_and_when_it_was_taken_and_how_large_it_is(full: conftest.Driver) -> None:
    volume_id = await _volume(full)
    before = datetime.datetime.now(datetime.UTC)

    taken = (await full.controller.CreateSnapshot(csi_messages.snapshot(volume_id))).snapshot

    assert (taken.source_volume_id, taken.size_bytes, taken.ready_to_use) == (volume_id, 1 << 20, True)
    assert before <= taken.creation_time.ToDatetime(datetime.UTC) <= datetime.datetime.now(datetime.UTC)
    found = await full.controller.GetSnapshot(csi_pb2.GetSnapshotRequest(snapshot_id=taken.snapshot_id))
    assert found.snapshot == taken


async def test_a_snapshot_that_is_taken_again_is_the_same(full: conftest.Driver) -> None:
    request = csi_messages.snapshot(await _volume(full))
    first = await full.controller.CreateSnapshot(request)

    assert await full.controller.CreateSnapshot(request) == first


async def test_a_snapshot_name_of_another_volume_is_taken(full: conftest.Driver) -> None:
    await full.controller.CreateSnapshot(csi_messages.snapshot(await _volume(full, "pvc-1")))
    other = await _volume(full, "pvc-2")

    assert (
        await conftest.refusal(full.controller.CreateSnapshot(csi_messages.snapshot(other)))
        is grpc.StatusCode.ALREADY_EXISTS
    )


async def test_a_snapshot_of_nothing_is_not_found(full: conftest.Driver) -> None:
    request = csi_messages.snapshot("no-such-volume")

    assert await conftest.refusal(full.controller.CreateSnapshot(request)) is grpc.StatusCode.NOT_FOUND


async def test_a_snapshot_that_is_deleted_is_gone_also_twice(full: conftest.Driver) -> None:
    taken = await _snapshot(full, await _volume(full))
    for _ in range(2):
        await full.controller.DeleteSnapshot(csi_pb2.DeleteSnapshotRequest(snapshot_id=taken))

    asked = full.controller.GetSnapshot(csi_pb2.GetSnapshotRequest(snapshot_id=taken))
    assert await conftest.refusal(asked) is grpc.StatusCode.NOT_FOUND


async def test_a_volume_from_a_snapshot_or_a_volume_names_its_source(full: conftest.Driver) -> None:
    source = await _volume(full)
    of_snapshot = csi_messages.from_snapshot(await _snapshot(full, source))
    of_volume = csi_messages.from_volume(source)

    restored = await full.controller.CreateVolume(csi_messages.create("restored", source=of_snapshot))
    cloned = await full.controller.CreateVolume(csi_messages.create("cloned", source=of_volume))

    assert (restored.volume.content_source, cloned.volume.content_source) == (of_snapshot, of_volume)
    described = await full.controller.ControllerGetVolume(
        csi_pb2.ControllerGetVolumeRequest(volume_id=cloned.volume.volume_id)
    )
    assert described.volume.content_source == of_volume


@pytest.mark.parametrize("source", [csi_messages.from_snapshot("none"), csi_messages.from_volume("none")])
async def test_a_volume_from_what_does_not_exist_is_not_found(
    full: conftest.Driver, source: csi_pb2.VolumeContentSource
) -> None:
    request = csi_messages.create(source=source)

    assert await conftest.refusal(full.controller.CreateVolume(request)) is grpc.StatusCode.NOT_FOUND


async def test_a_volume_of_the_same_name_from_another_source_exists_already(full: conftest.Driver) -> None:
    source = await _volume(full)
    await full.controller.CreateVolume(csi_messages.create("copy"))
    request = csi_messages.create("copy", source=csi_messages.from_volume(source))

    assert await conftest.refusal(full.controller.CreateVolume(request)) is grpc.StatusCode.ALREADY_EXISTS


async def test_a_listing_in_pages_finds_each_snapshot_once(full: conftest.Driver) -> None:
    source = await _volume(full)
    taken = {await _snapshot(full, source, f"snapshot-{number}") for number in range(5)}
    listed: list[str] = []
    token = ""
    while True:
        reply = await full.controller.ListSnapshots(csi_pb2.ListSnapshotsRequest(max_entries=2, starting_token=token))
        listed.extend(entry.snapshot.snapshot_id for entry in reply.entries)
        token = reply.next_token
        if not token:
            break

    assert sorted(listed) == sorted(taken)


async def test_a_listing_of_snapshots_from_a_token_that_is_not_ours_is_aborted(full: conftest.Driver) -> None:
    request = csi_pb2.ListSnapshotsRequest(starting_token="invalid-token")

    assert await conftest.refusal(full.controller.ListSnapshots(request)) is grpc.StatusCode.ABORTED


async def test_a_listing_is_narrowed_to_a_volume_a_snapshot_or_both(full: conftest.Driver) -> None:
    first, second = await _volume(full, "pvc-1"), await _volume(full, "pvc-2")
    one, two = await _snapshot(full, first, "one"), await _snapshot(full, second, "two")

    async def found(*, snapshot_id: str = "", source_volume_id: str = "") -> list[str]:
        request = csi_pb2.ListSnapshotsRequest(snapshot_id=snapshot_id, source_volume_id=source_volume_id)
        reply = await full.controller.ListSnapshots(request)
        return [entry.snapshot.snapshot_id for entry in reply.entries]

    assert await found(source_volume_id=first) == [one]
    assert await found(snapshot_id=two) == [two]
    assert await found(snapshot_id=two, source_volume_id=second) == [two]
    assert await found(snapshot_id=two, source_volume_id=first) == []
    assert await found(snapshot_id="none") == []
    assert await found(source_volume_id="none") == []


async def _volume(driver: conftest.Driver, name: str = "pvc-1") -> str:
    return (await driver.controller.CreateVolume(csi_messages.create(name))).volume.volume_id


async def _snapshot(driver: conftest.Driver, volume_id: str, name: str = "snapshot-1") -> str:
    taken = await driver.controller.CreateSnapshot(csi_messages.snapshot(volume_id, name))
    return taken.snapshot.snapshot_id
