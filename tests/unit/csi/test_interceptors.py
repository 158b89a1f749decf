"""What every call leaves in the log and in the metrics."""

import asyncio
from collections.abc import Iterator, MutableMapping
from typing import Any

import grpc
import pytest
import structlog
from grpc import aio

from provisioner import errors
from provisioner.csi import redact
from provisioner.generated import csi_pb2
from tests.fakes import csi_messages, gate
from tests.unit.csi import conftest

CREATE = "/csi.v1.Controller/CreateVolume"


@pytest.fixture
def log() -> Iterator[list[MutableMapping[str, Any]]]:
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as entries:
        yield entries


def served(entries: list[MutableMapping[str, Any]]) -> list[MutableMapping[str, Any]]:
    return [entry for entry in entries if entry["event"] == "served"]


async def test_a_call_leaves_one_line_with_method_code_and_duration(
    driver: conftest.Driver, log: list[MutableMapping[str, Any]]
) -> None:
    await driver.controller.CreateVolume(csi_messages.create())

    (line,) = served(log)
    assert (line["method"], line["code"], line["log_level"]) == (CREATE, "OK", "info")
    assert line["seconds"] >= 0


async def test_every_line_of_a_call_has_its_own_request_id(
    driver: conftest.Driver, log: list[MutableMapping[str, Any]]
) -> None:
    await driver.controller.CreateVolume(csi_messages.create("pvc-1"))
    await driver.controller.CreateVolume(csi_messages.create("pvc-2"))

    assert [entry["request"] for entry in log if entry["event"] == "call"] == [
        entry["request"] for entry in served(log)
    ]
    assert len({entry["request"] for entry in served(log)}) == 2


async def test_a_refused_call_is_a_warning_with_the_message_that_the_user_sees(
    driver: conftest.Driver, log: list[MutableMapping[str, Any]]
) -> None:
    with pytest.raises(aio.AioRpcError) as refused:
        await driver.controller.CreateVolume(csi_pb2.CreateVolumeRequest())

    (line,) = served(log)
    assert (line["log_level"], line["code"], line["error"]) == (
        "warning",
        "INVALID_ARGUMENT",
        refused.value.details(),
    )


async def test_an_unexpected_failure_is_logged_whole_and_answered_without_its_text(
    driver: conftest.Driver, log: list[MutableMapping[str, Any]]
) -> None:
    driver.backend.fail("get", RuntimeError("inner text"))

    with pytest.raises(aio.AioRpcError) as refused:
        await driver.controller.ControllerGetVolume(csi_pb2.ControllerGetVolumeRequest(volume_id="v"))

    (line,) = [entry for entry in log if entry["log_level"] == "error"]
    assert line["exc_info"]
    assert "inner text" not in (refused.value.details() or "")
    assert line["request"] in (refused.value.details() or "")


async def test_a_failure_carries_no_status_details(driver: conftest.Driver) -> None:
    with pytest.raises(aio.AioRpcError) as refused:
        await driver.controller.CreateVolume(csi_pb2.CreateVolumeRequest())

    assert list(refused.value.trailing_metadata()) == []


@pytest.mark.parametrize("call", ["Probe", "GetPluginInfo", "GetPluginCapabilities"])
async def test_what_is_asked_all_the_time_is_logged_at_debug(
    driver: conftest.Driver, log: list[MutableMapping[str, Any]], call: str
) -> None:
    await getattr(driver.identity, call)(getattr(csi_pb2, f"{call}Request")())

    assert [line["log_level"] for line in served(log)] == ["debug"]


@pytest.mark.parametrize("call", ["GetCapacity", "ControllerGetCapabilities"])
async def test_what_the_watcher_polls_is_logged_at_debug(
    driver: conftest.Driver, log: list[MutableMapping[str, Any]], call: str
) -> None:
    await getattr(driver.controller, call)(getattr(csi_pb2, f"{call}Request")())

    assert [line["log_level"] for line in served(log)] == ["debug"]


async def test_a_failed_probe_is_a_warning(driver: conftest.Driver, log: list[MutableMapping[str, Any]]) -> None:
    driver.backend.fail("probe", errors.BackendUnavailableError("unmounted"))
    with pytest.raises(aio.AioRpcError):
        await driver.identity.Probe(csi_pb2.ProbeRequest())

    assert [line["log_level"] for line in served(log)] == ["warning"]


async def test_no_secret_and_no_mount_flag_reaches_the_log(
    driver: conftest.Driver, log: list[MutableMapping[str, Any]]
) -> None:
    create = csi_messages.create()
    create.secrets["key"] = "hunter2"
    create.volume_capabilities[0].mount.mount_flags.append("password=hunter2")
    publish = csi_messages.publish()
    publish.secrets["key"] = "hunter2"
    await driver.controller.CreateVolume(create)
    await driver.node.NodePublishVolume(publish)

    assert "hunter2" not in str(log)
    assert str(log).count(redact.STRIPPED) == 3


async def test_a_request_that_is_not_utf8_is_an_invalid_argument(
    driver: conftest.Driver, log: list[MutableMapping[str, Any]]
) -> None:
    async with aio.insecure_channel(f"unix://{driver.socket}") as channel:
        raw: Any = channel.unary_unary("/csi.v1.Controller/DeleteVolume")
        with pytest.raises(aio.AioRpcError) as refused:
            await raw(b"\x0a\x02\xff\xfe")

    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "UTF-8" in (refused.value.details() or "")
    assert [line["code"] for line in served(log)] == ["INVALID_ARGUMENT"]


async def test_each_call_is_measured_by_method_and_code(driver: conftest.Driver) -> None:
    await driver.controller.CreateVolume(csi_messages.create())
    with pytest.raises(aio.AioRpcError):
        await driver.controller.CreateVolume(csi_pb2.CreateVolumeRequest())

    def count(code: str) -> float | None:
        return driver.measured.registry.get_sample_value(
            "provisioner_csi_operations_seconds_count", {"method_name": CREATE, "grpc_status_code": code}
        )

    assert (count("OK"), count("INVALID_ARGUMENT")) == (1, 1)


async def test_a_call_under_way_is_counted_until_it_ends(driver: conftest.Driver) -> None:
    held = gate.Gate()
    driver.backend.on("create", held.wait)

    def in_flight() -> float | None:
        return driver.measured.registry.get_sample_value(
            "provisioner_csi_operations_in_flight", {"method_name": CREATE}
        )

    call = asyncio.ensure_future(driver.controller.CreateVolume(csi_messages.create()))
    await held.reached()
    during = in_flight()
    held.open()
    await call

    assert (during, in_flight()) == (1, 0)


def test_a_secret_is_known_by_its_mark_however_deep_it_lies() -> None:
    nodes = csi_pb2.NodeExpandVolumeRequest(volume_id="v", secrets={"key": "hunter2"})
    bound = csi_pb2.ControllerExpandVolumeRequest(volume_id="v", secrets={"key": "hunter2"})

    assert [redact.loggable(nodes), redact.loggable(bound)] == [{"volume_id": "v", "secrets": redact.STRIPPED}] * 2


def test_what_is_logged_of_a_request_is_readable() -> None:
    message = csi_messages.create(size=7)
    message.parameters["pool"] = "fast"
    message.accessibility_requirements.requisite.add().segments["zone"] = "a"
    message.volume_capabilities.append(csi_messages.capability(block=True))

    assert redact.loggable(message) == {
        "name": "pvc-1",
        "capacity_range": {"required_bytes": 7},
        "volume_capabilities": [
            {"mount": {}, "access_mode": {"mode": "SINGLE_NODE_WRITER"}},
            {"block": {}, "access_mode": {"mode": "SINGLE_NODE_WRITER"}},
        ],
        "parameters": {"pool": "fast"},
        "accessibility_requirements": {"requisite": [{"segments": {"zone": "a"}}]},
    }
