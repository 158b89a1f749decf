"""Requests become values only if they keep the specification's rules."""

from collections.abc import Callable

import pytest

from provisioner import errors, model
from provisioner.csi import node_requests, requests, snapshot_requests
from provisioner.generated import csi_pb2
from tests.fakes import csi_messages
from tests.fakes.memory_backend import FULL, PLAIN

Spoil = Callable[[csi_pb2.CreateVolumeRequest], object]


def test_create_volume_is_read_whole() -> None:
    message = csi_pb2.CreateVolumeRequest(
        name="pvc-1",
        capacity_range=csi_pb2.CapacityRange(required_bytes=1, limit_bytes=2),
        volume_capabilities=[
            csi_pb2.VolumeCapability(
                mount=csi_pb2.VolumeCapability.MountVolume(fs_type="xfs", mount_flags=["noatime"]),
                access_mode=csi_pb2.VolumeCapability.AccessMode(mode=csi_messages.Mode.SINGLE_NODE_SINGLE_WRITER),
            ),
            csi_messages.capability("MULTI_NODE_MULTI_WRITER", block=True),
        ],
        parameters={"pool": "fast"},
        secrets={"key": "value"},
        accessibility_requirements=csi_pb2.TopologyRequirement(
            requisite=[csi_pb2.Topology(segments={"zone": "b"}), csi_pb2.Topology(segments={"zone": "a"})],
            preferred=[csi_pb2.Topology(segments={"zone": "a"})],
        ),
    )

    read = requests.create_volume(message, PLAIN)

    assert [read] == [
        model.VolumeRequest(
            name="pvc-1",
            size=model.SizeRange(1, 2),
            capabilities=(
                model.Capability(
                    access_mode=model.AccessMode.SINGLE_NODE_SINGLE_WRITER,
                    fs_type="xfs",
                    mount_flags=("noatime",),
                ),
                model.Capability(
                    access_mode=model.AccessMode.MULTI_NODE_MULTI_WRITER, access_type=model.AccessType.BLOCK
                ),
            ),
            parameters={"pool": "fast"},
            accessibility=model.Accessibility(
                requisite=(model.Topology.of({"zone": "b"}), model.Topology.of({"zone": "a"})),
                preferred=(model.Topology.of({"zone": "a"}),),
            ),
        )
    ]
    assert read.secrets == {"key": "value"}


def test_a_create_without_sizes_leaves_the_size_to_the_backend() -> None:
    message = csi_messages.create()
    message.ClearField("capacity_range")

    assert requests.create_volume(message, PLAIN).size == model.SizeRange()


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda m: m.ClearField("name"), "name is missing"),
        (lambda m: m.ClearField("volume_capabilities"), "volume_capabilities is missing"),
        (lambda m: setattr(m, "name", "n" * 129), "name is 129 bytes long; it may have 128"),
        (lambda m: setattr(m, "name", "ü" * 65), "name is 130 bytes long"),
        (lambda m: setattr(m, "name", "a\x00b"), "name holds a control character"),
        (lambda m: setattr(m, "name", "a\nb"), "name holds a control character"),
        (lambda m: m.parameters.update({"k": "v" * 4096}), "parameters is 4097 bytes large; it may have 4096"),
        (lambda m: m.parameters.update({"k\x00": "v"}), "a key of parameters holds a control character"),
        (lambda m: m.secrets.update({"k": "v" * 4096}), "secrets is 4097 bytes large"),
        (lambda m: m.mutable_parameters.update({"k": "v"}), "mutable_parameters cannot be used"),
        (lambda m: m.volume_content_source.SetInParent(), "names neither a snapshot nor a volume"),
        (lambda m: m.volume_content_source.volume.SetInParent(), "does not announce CLONE_VOLUME"),
        (lambda m: m.volume_content_source.snapshot.SetInParent(), "announces no snapshots"),
        (lambda m: setattr(m.capacity_range, "required_bytes", -1), "the size is negative"),
        (lambda m: setattr(m.capacity_range, "limit_bytes", -1), "the size is negative"),
        (lambda m: setattr(m.capacity_range, "limit_bytes", 7), "limit of 7 bytes is below the required"),
        (lambda m: setattr(m.capacity_range, "required_bytes", 0), "neither required_bytes nor limit_bytes"),
        (lambda m: m.volume_capabilities[0].ClearField("mount"), "the access type (block or mount)"),
        (lambda m: m.volume_capabilities[0].ClearField("access_mode"), "the access mode of a volume capability"),
        (lambda m: setattr(m.volume_capabilities[0].access_mode, "mode", 99), "access mode 99 is unknown"),
        (lambda m: setattr(m.volume_capabilities[0].mount, "fs_type", "x" * 129), "fs_type is 129 bytes long"),
        (lambda m: setattr(m.volume_capabilities[0].mount, "volume_mount_group", "7"), "volume_mount_group"),
        (lambda m: m.volume_capabilities[0].mount.mount_flags.append("x" * 4097), "mount_flags are 4097 bytes"),
        (lambda m: m.volume_capabilities[0].mount.mount_flags.append("a\x00"), "mount_flags hold a control"),
        (
            lambda m: m.accessibility_requirements.requisite.add().segments.update({"z": "v" * 4096}),
            "segments is 4097 bytes large",
        ),
    ],
)
def test_a_create_that_breaks_a_rule_is_refused_with_the_field_and_the_rule(spoil: Spoil, told: str) -> None:
    message = csi_messages.create()
    spoil(message)

    with pytest.raises(errors.InvalidRequestError) as refused:
        requests.create_volume(message, PLAIN)

    assert told in str(refused.value)


def test_a_refusal_never_repeats_a_secret() -> None:
    message = csi_messages.create()
    message.secrets["password"] = "hunter2" * 1000

    with pytest.raises(errors.InvalidRequestError) as refused:
        requests.create_volume(message, PLAIN)

    assert "hunter2" not in str(refused.value)


def test_names_may_be_unicode_and_as_long_as_the_specification_allows() -> None:
    name = "ü" * 64

    assert requests.create_volume(csi_messages.create(name), PLAIN).name == name


def test_mount_flags_may_be_longer_than_other_strings() -> None:
    message = csi_messages.create()
    message.volume_capabilities[0].mount.mount_flags.append("x" * 4096)

    assert requests.create_volume(message, PLAIN).capabilities[0].mount_flags == ("x" * 4096,)


BAD_IDS = ["", "a/b", "..", "a..b", "../../etc", "a\x00b", "-rf", ".hidden", "x" * 128, "x" * 10240, "ü", "a b"]


@pytest.mark.parametrize("volume_id", BAD_IDS)
def test_an_id_that_no_backend_gives_out_is_refused_by_every_call(volume_id: str) -> None:
    attempts: list[Callable[[], object]] = [
        lambda: requests.volume_id(csi_pb2.DeleteVolumeRequest(volume_id=volume_id)),
        lambda: requests.volume_id(csi_pb2.ControllerGetVolumeRequest(volume_id=volume_id)),
        lambda: requests.validate_capabilities(
            csi_pb2.ValidateVolumeCapabilitiesRequest(
                volume_id=volume_id, volume_capabilities=[csi_messages.capability()]
            )
        ),
        lambda: requests.expand_volume(csi_messages.expand(volume_id)),
        lambda: requests.publish_volume(csi_messages.attach(volume_id)),
        lambda: requests.unpublish_volume(csi_pb2.ControllerUnpublishVolumeRequest(volume_id=volume_id)),
        lambda: snapshot_requests.create_snapshot(csi_messages.snapshot(volume_id)),
        lambda: snapshot_requests.snapshot_id(csi_pb2.DeleteSnapshotRequest(snapshot_id=volume_id)),
        lambda: snapshot_requests.snapshot_id(csi_pb2.GetSnapshotRequest(snapshot_id=volume_id)),
        lambda: requests.create_volume(csi_messages.create(source=csi_messages.from_volume(volume_id)), FULL),
        lambda: requests.create_volume(csi_messages.create(source=csi_messages.from_snapshot(volume_id)), FULL),
        lambda: node_requests.stage(csi_messages.stage(volume_id)),
        lambda: node_requests.unstage(csi_pb2.NodeUnstageVolumeRequest(volume_id=volume_id, staging_target_path="/s")),
        lambda: node_requests.publish(csi_messages.publish(volume_id), PLAIN),
        lambda: node_requests.unpublish(csi_pb2.NodeUnpublishVolumeRequest(volume_id=volume_id, target_path="/t")),
        lambda: node_requests.volume_stats(csi_pb2.NodeGetVolumeStatsRequest(volume_id=volume_id, volume_path="/t")),
        lambda: node_requests.expand(csi_pb2.NodeExpandVolumeRequest(volume_id=volume_id, volume_path="/t")),
    ]
    for attempt in attempts:
        with pytest.raises(errors.InvalidRequestError):
            attempt()


@pytest.mark.parametrize(("asked", "limit"), [(0, 1000), (1, 1), (1000, 1000), (2**31 - 1, 1000)])
def test_a_page_has_what_was_asked_for_up_to_a_thousand(asked: int, limit: int) -> None:
    assert requests.list_volumes(csi_pb2.ListVolumesRequest(max_entries=asked)).limit == limit


def test_a_negative_page_is_refused() -> None:
    with pytest.raises(errors.InvalidRequestError, match="max_entries is -1"):
        requests.list_volumes(csi_pb2.ListVolumesRequest(max_entries=-1))


def test_capacity_without_a_place_is_capacity_anywhere() -> None:
    assert requests.get_capacity(csi_pb2.GetCapacityRequest()) == requests.Room((), {}, None)


@pytest.mark.parametrize(
    "request_",
    [
        csi_pb2.GetCapacityRequest(parameters={"k": "v" * 4096}),
        csi_pb2.GetCapacityRequest(volume_capabilities=[csi_pb2.VolumeCapability()]),
    ],
)
def test_a_capacity_request_is_held_to_the_same_rules(request_: csi_pb2.GetCapacityRequest) -> None:
    with pytest.raises(errors.InvalidRequestError):
        requests.get_capacity(request_)


def test_validation_without_capabilities_is_refused() -> None:
    bare = csi_pb2.ValidateVolumeCapabilitiesRequest(volume_id="v")

    with pytest.raises(errors.InvalidRequestError, match="volume_capabilities is missing"):
        requests.validate_capabilities(bare)


@pytest.mark.parametrize(
    ("source", "read"),
    [
        (csi_messages.from_snapshot("snap-1"), model.SnapshotId("snap-1")),
        (csi_messages.from_volume("vol-1"), model.VolumeId("vol-1")),
        (None, None),
    ],
)
def test_the_source_of_a_volume_is_read_where_it_is_announced(
    source: csi_pb2.VolumeContentSource | None, read: model.SnapshotId | model.VolumeId | None
) -> None:
    assert requests.create_volume(csi_messages.create(source=source), FULL).source == read


def test_expand_is_read_whole() -> None:
    message = csi_messages.expand("vol-1", size=5)
    message.capacity_range.limit_bytes = 7
    message.volume_capability.CopyFrom(csi_messages.capability(block=True))

    assert requests.expand_volume(message) == requests.Growth(model.VolumeId("vol-1"), model.SizeRange(5, 7))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda m: m.ClearField("capacity_range"), "capacity_range is missing"),
        (lambda m: m.capacity_range.Clear(), "neither required_bytes nor limit_bytes"),
        (lambda m: setattr(m.capacity_range, "limit_bytes", 1), "limit of 1 bytes is below the required"),
        (lambda m: setattr(m.capacity_range, "required_bytes", -1), "the size is negative"),
        (lambda m: m.volume_capability.SetInParent(), "the access type (block or mount)"),
        (lambda m: m.secrets.update({"k": "v" * 4096}), "secrets is 4097 bytes large"),
    ],
)
def test_an_expansion_that_breaks_a_rule_is_refused(
    spoil: Callable[[csi_pb2.ControllerExpandVolumeRequest], object], told: str
) -> None:
    message = csi_messages.expand("vol-1")
    spoil(message)

    with pytest.raises(errors.InvalidRequestError) as refused:
        requests.expand_volume(message)

    assert told in str(refused.value)


def test_a_publication_to_a_node_is_read_whole() -> None:
    message = csi_messages.attach("vol-1", "node-1")
    message.readonly = True

    assert requests.publish_volume(message) == requests.Publication(
        model.VolumeId("vol-1"),
        "node-1",
        model.Capability(access_mode=model.AccessMode.SINGLE_NODE_WRITER),
        read_only=True,
    )


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda m: m.ClearField("node_id"), "node_id is missing"),
        (lambda m: m.ClearField("volume_capability"), "volume_capability is missing"),
        (lambda m: setattr(m, "node_id", "n" * 257), "node_id is 257 bytes long; it may have 256"),
        (lambda m: setattr(m, "node_id", "a\nb"), "node_id holds a control character"),
        (lambda m: m.volume_context.update({"k": "v" * 4096}), "volume_context is 4097 bytes large"),
    ],
)
def test_a_publication_that_breaks_a_rule_is_refused(
    spoil: Callable[[csi_pb2.ControllerPublishVolumeRequest], object], told: str
) -> None:
    message = csi_messages.attach("vol-1", "node-1")
    spoil(message)

    with pytest.raises(errors.InvalidRequestError) as refused:
        requests.publish_volume(message)

    assert told in str(refused.value)


def test_a_volume_is_taken_from_every_node_where_none_is_named() -> None:
    message = csi_pb2.ControllerUnpublishVolumeRequest(volume_id="vol-1")

    assert requests.unpublish_volume(message) == (model.VolumeId("vol-1"), "")


def test_a_snapshot_request_is_read_whole() -> None:
    message = csi_messages.snapshot("vol-1", "snapshot-1")
    message.parameters["colour"] = "blue"
    message.secrets["key"] = "value"

    read = snapshot_requests.create_snapshot(message)

    assert [read] == [
        model.SnapshotRequest(name="snapshot-1", source=model.VolumeId("vol-1"), parameters={"colour": "blue"})
    ]
    assert read.secrets == {"key": "value"}


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda m: m.ClearField("name"), "name is missing"),
        (lambda m: m.ClearField("source_volume_id"), "source_volume_id is missing"),
        (lambda m: setattr(m, "name", "n" * 129), "name is 129 bytes long"),
        (lambda m: m.accessibility_requirements.SetInParent(), "SNAPSHOT_ACCESSIBILITY_CONSTRAINTS"),
    ],
)
def test_a_snapshot_that_breaks_a_rule_is_refused(
    spoil: Callable[[csi_pb2.CreateSnapshotRequest], object], told: str
) -> None:
    message = csi_messages.snapshot("vol-1", "snapshot-1")
    spoil(message)

    with pytest.raises(errors.InvalidRequestError) as refused:
        snapshot_requests.create_snapshot(message)

    assert told in str(refused.value)


def test_a_listing_of_snapshots_is_read_whole() -> None:
    message = csi_pb2.ListSnapshotsRequest(
        max_entries=7, starting_token=">snap-3", source_volume_id="vol-1", snapshot_id="snap-4"
    )

    assert snapshot_requests.list_snapshots(message) == snapshot_requests.Search(
        model.SnapshotId("snap-4"), model.VolumeId("vol-1"), model.SnapshotId("snap-3"), 7
    )


def test_a_listing_of_snapshots_that_names_nothing_is_of_all() -> None:
    assert snapshot_requests.list_snapshots(csi_pb2.ListSnapshotsRequest()) == snapshot_requests.Search(
        None, None, None, 1000
    )


@pytest.mark.parametrize(
    "message",
    [
        csi_pb2.ListSnapshotsRequest(max_entries=-1),
        csi_pb2.ListSnapshotsRequest(snapshot_id="a/b"),
        csi_pb2.ListSnapshotsRequest(source_volume_id="a/b"),
        csi_pb2.ListSnapshotsRequest(secrets={"k": "v" * 4096}),
    ],
    ids=["negative page", "snapshot", "source", "secrets"],
)
def test_a_listing_of_snapshots_is_held_to_the_same_rules(message: csi_pb2.ListSnapshotsRequest) -> None:
    with pytest.raises(errors.InvalidRequestError):
        snapshot_requests.list_snapshots(message)
