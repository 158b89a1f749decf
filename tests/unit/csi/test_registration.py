"""The kubelet finds the driver through its plugin registry."""

import stat
from collections.abc import AsyncIterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
import structlog
from grpc import aio

from provisioner import errors, metrics
from provisioner.csi import registration
from provisioner.generated import pluginregistration_pb2 as registration_pb2
from provisioner.generated import pluginregistration_pb2_grpc as registration_pb2_grpc

ENDPOINT = Path("/var/lib/kubelet/plugins/a.b/csi.sock")


def new_registration(registry: Path) -> registration.Registration:
    return registration.Registration(driver="a.b", endpoint=ENDPOINT, registry=registry, measured=metrics.Metrics())


@pytest.fixture
async def registered(tmp_path: Path) -> AsyncIterator[registration.Registration]:
    serving = new_registration(tmp_path)
    await serving.start()
    yield serving
    await serving.stop()


@pytest.fixture
async def kubelet(
    registered: registration.Registration, tmp_path: Path
) -> AsyncIterator[registration_pb2_grpc.RegistrationStub]:
    async with aio.insecure_channel(f"unix://{tmp_path / 'a.b-reg.sock'}") as channel:
        yield registration_pb2_grpc.RegistrationStub(channel)


async def test_the_kubelet_learns_who_the_driver_is_and_where(
    kubelet: registration_pb2_grpc.RegistrationStub,
) -> None:
    assert await kubelet.GetInfo(registration_pb2.InfoRequest()) == registration_pb2.PluginInfo(
        type="CSIPlugin", name="a.b", endpoint=str(ENDPOINT), supported_versions=["1.0.0"]
    )


async def test_it_is_not_registered_before_the_kubelet_says_so(registered: registration.Registration) -> None:
    assert registered.registered is None


async def test_the_kubelets_consent_is_kept(
    registered: registration.Registration, kubelet: registration_pb2_grpc.RegistrationStub
) -> None:
    await kubelet.NotifyRegistrationStatus(registration_pb2.RegistrationStatus(plugin_registered=True))

    assert (registered.registered, registered.refusal) == (True, "")


async def test_the_kubelets_refusal_is_kept_and_logged(
    registered: registration.Registration, kubelet: registration_pb2_grpc.RegistrationStub
) -> None:
    with structlog.testing.capture_logs() as log:
        await kubelet.NotifyRegistrationStatus(
            registration_pb2.RegistrationStatus(plugin_registered=False, error="wrong name")
        )

    assert (registered.registered, registered.refusal) == (False, "wrong name")
    assert [entry["error"] for entry in _errors(log)] == ["wrong name"]


async def test_a_later_consent_clears_the_refusal(
    registered: registration.Registration, kubelet: registration_pb2_grpc.RegistrationStub
) -> None:
    await kubelet.NotifyRegistrationStatus(registration_pb2.RegistrationStatus(error="not yet"))
    await kubelet.NotifyRegistrationStatus(registration_pb2.RegistrationStatus(plugin_registered=True))

    assert (registered.registered, registered.refusal) == (True, "")


async def test_the_socket_is_for_its_owner_alone(registered: registration.Registration, tmp_path: Path) -> None:
    assert stat.S_IMODE((tmp_path / "a.b-reg.sock").stat().st_mode) == 0o600


async def test_the_socket_is_gone_after_a_stop(tmp_path: Path) -> None:
    serving = new_registration(tmp_path)
    await serving.start()
    await serving.stop()

    assert not (tmp_path / "a.b-reg.sock").exists()


async def test_a_second_registration_of_the_driver_is_refused(
    registered: registration.Registration, tmp_path: Path
) -> None:
    with pytest.raises(errors.SocketUnavailableError, match="another process serves"):
        await new_registration(tmp_path).start()


async def test_a_missing_registry_says_what_to_mount(tmp_path: Path) -> None:
    with pytest.raises(errors.SocketUnavailableError, match="mount the host's <kubelet root>/plugins_registry"):
        await new_registration(tmp_path / "plugins_registry").start()


def _errors(log: list[MutableMapping[str, Any]]) -> list[MutableMapping[str, Any]]:
    return [entry for entry in log if entry["log_level"] == "error"]
