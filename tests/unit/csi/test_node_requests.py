"""Requests to the node become values only if they keep the specification's rules."""

from pathlib import Path

import pytest

from provisioner import errors, model
from provisioner.backends import base
from provisioner.csi import node_requests
from provisioner.generated import csi_pb2
from provisioner.node import requests
from tests.fakes import csi_messages
from tests.fakes.memory_backend import PLAIN

DEVICES = base.Features(devices=True)
RWO = model.Capability(access_mode=model.AccessMode.SINGLE_NODE_WRITER)


BAD_PATHS = [
    "", "relative", "/", "/a/../b", "/a/./b", "/a//b", "//a", "/a/", "/a/..", "/a\x00b", "/a\nb", "/" + "a" * 4096
]  # fmt: skip


@pytest.mark.parametrize("path", BAD_PATHS)
def test_a_target_path_that_is_not_absolute_and_normalised_is_refused(path: str) -> None:
    with pytest.raises(errors.InvalidRequestError):
        node_requests.publish(csi_messages.publish(target=path), PLAIN)
    with pytest.raises(errors.InvalidRequestError):
        node_requests.unpublish(csi_pb2.NodeUnpublishVolumeRequest(volume_id="v", target_path=path))


@pytest.mark.parametrize("path", BAD_PATHS)
def test_a_staging_path_that_is_not_absolute_and_normalised_is_refused(path: str) -> None:
    with pytest.raises(errors.InvalidRequestError):
        node_requests.stage(csi_messages.stage(staging=path))
    with pytest.raises(errors.InvalidRequestError):
        node_requests.unstage(csi_pb2.NodeUnstageVolumeRequest(volume_id="v", staging_target_path=path))


def test_publish_is_read_whole() -> None:
    message = csi_messages.publish("vol-1", "/var/lib/kubelet/pods/" + "p" * 200 + "/mount")
    message.readonly = True

    assert node_requests.publish(message, PLAIN) == requests.PublishRequest(
        volume_id=model.VolumeId("vol-1"),
        target=Path(message.target_path),
        capability=model.Capability(access_mode=model.AccessMode.SINGLE_NODE_WRITER),
        read_only=True,
    )


def test_publish_without_a_capability_is_refused() -> None:
    message = csi_messages.publish()
    message.ClearField("volume_capability")

    with pytest.raises(errors.InvalidRequestError, match="volume_capability is missing"):
        node_requests.publish(message, PLAIN)


def test_stats_at_a_relative_path_find_no_volume_there() -> None:
    with pytest.raises(errors.VolumeNotFoundError):
        node_requests.volume_stats(csi_pb2.NodeGetVolumeStatsRequest(volume_id="v", volume_path="some/path"))


def test_stats_without_a_path_are_refused() -> None:
    with pytest.raises(errors.InvalidRequestError, match="volume_path is missing"):
        node_requests.volume_stats(csi_pb2.NodeGetVolumeStatsRequest(volume_id="v"))


def test_publish_of_a_staged_volume_says_where_it_was_staged_and_in_which_context() -> None:
    message = csi_messages.publish("vol-1", "/pods/1/mount")
    message.staging_target_path = "/staging"
    message.volume_context["image"] = "a"
    message.publish_context["node"] = "b"
    message.secrets["key"] = "hunter2"

    read = node_requests.publish(message, DEVICES)

    assert read == requests.PublishRequest(
        volume_id=model.VolumeId("vol-1"),
        target=Path("/pods/1/mount"),
        capability=RWO,
        staging=Path("/staging"),
        context={"image": "a"},
        publish_context={"node": "b"},
    )
    assert read.secrets == {"key": "hunter2"}
    assert "hunter2" not in repr(read)


def test_publish_without_a_staging_path_is_not_ready_where_volumes_are_staged() -> None:
    with pytest.raises(errors.NotReadyError, match="staging_target_path is missing"):
        node_requests.publish(csi_messages.publish(), DEVICES)


@pytest.mark.parametrize("path", ["relative", "/a/../b", "/a/"])
def test_publish_from_a_staging_path_that_is_not_normalised_is_refused(path: str) -> None:
    message = csi_messages.publish()
    message.staging_target_path = path

    with pytest.raises(errors.InvalidRequestError, match="staging_target_path"):
        node_requests.publish(message, DEVICES)


def test_stage_is_read_whole() -> None:
    message = csi_messages.stage("vol-1", "/staging")
    message.volume_context["image"] = "a"
    message.publish_context["node"] = "b"
    message.secrets["key"] = "hunter2"

    read = node_requests.stage(message)

    assert read == requests.StageRequest(
        volume_id=model.VolumeId("vol-1"),
        staging=Path("/staging"),
        capability=RWO,
        context={"image": "a"},
        publish_context={"node": "b"},
    )
    assert read.secrets == {"key": "hunter2"}
    assert "hunter2" not in repr(read)


def test_stage_without_a_capability_is_refused() -> None:
    message = csi_messages.stage()
    message.ClearField("volume_capability")

    with pytest.raises(errors.InvalidRequestError, match="volume_capability is missing"):
        node_requests.stage(message)


def test_stage_with_a_context_that_is_too_large_is_refused() -> None:
    message = csi_messages.stage()
    message.publish_context["k"] = "v" * 4096

    with pytest.raises(errors.InvalidRequestError, match="publish_context is 4097 bytes large"):
        node_requests.stage(message)


def test_expand_is_read_whole() -> None:
    message = csi_pb2.NodeExpandVolumeRequest(
        volume_id="vol-1",
        volume_path="/pods/1/mount",
        staging_target_path="/staging",
        capacity_range=csi_pb2.CapacityRange(required_bytes=5),
        volume_capability=csi_messages.capability(),
    )

    assert node_requests.expand(message) == requests.ExpandRequest(
        volume_id=model.VolumeId("vol-1"),
        path=Path("/pods/1/mount"),
        staging=Path("/staging"),
        size=model.SizeRange(5),
        capability=RWO,
    )


def test_expand_needs_no_more_than_the_volume_and_its_path() -> None:
    message = csi_pb2.NodeExpandVolumeRequest(volume_id="vol-1", volume_path="/pods/1/mount")

    assert node_requests.expand(message) == requests.ExpandRequest(
        volume_id=model.VolumeId("vol-1"),
        path=Path("/pods/1/mount"),
        staging=None,
        size=model.SizeRange(),
        capability=None,
    )


def test_expand_at_a_relative_path_finds_no_volume_there() -> None:
    with pytest.raises(errors.VolumeNotFoundError):
        node_requests.expand(csi_pb2.NodeExpandVolumeRequest(volume_id="v", volume_path="some/path"))


def test_expand_without_a_path_is_refused() -> None:
    with pytest.raises(errors.InvalidRequestError, match="volume_path is missing"):
        node_requests.expand(csi_pb2.NodeExpandVolumeRequest(volume_id="v"))
