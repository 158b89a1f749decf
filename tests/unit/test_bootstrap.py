"""What each command is made of, and that each setting reaches what it is about."""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from provisioner import bootstrap, roles, settings
from provisioner.controllers import options
from provisioner.generated import csi_pb2, csi_pb2_grpc, pluginregistration_pb2, pluginregistration_pb2_grpc
from provisioner.kube import objects
from tests.fakes import apiserver
from tests.harness import process

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="the pool of a running driver belongs to root: run as root")


def load(**flags: Any) -> settings.Settings:
    return settings.load(settings.ALL_GROUPS, file={}, environment={}, flags=flags)


async def until(condition: Callable[[], object], *, what: str) -> None:
    await asyncio.to_thread(process.wait_until, condition, seconds=10, what=what)


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory whose path is short enough for sockets below it."""
    with tempfile.TemporaryDirectory(prefix="b") as directory:
        yield Path(directory)


@contextlib.asynccontextmanager
async def running(role: roles.Role, home: Path, **flags: Any) -> AsyncIterator[aio.Channel]:
    """A process's worth of parts in this one, and a channel to its services."""
    stop, socket = asyncio.Event(), home / "csi.sock"
    defaults = {
        "pool": f"default={home}/pool",
        "init_pools": True,
        "node_name": "node1",
        "csi_socket": str(socket),
        "metrics_address": "127.0.0.1:0",
        "registration": False,
        "watch": "none",
    }
    ended = asyncio.create_task(bootstrap.run(role, load(**defaults | flags), stop))
    try:
        async with aio.insecure_channel(f"unix:{socket}") as channel:
            await until(lambda: socket.exists() or ended.done(), what="the socket")
            yield channel
    finally:
        stop.set()
        await ended


async def code(call: Any) -> grpc.StatusCode:
    found: grpc.StatusCode = await call.code()
    return found


@as_root
@pytest.mark.parametrize(
    ("role", "shared", "makes", "mounts"),
    [
        (roles.Role.SERVE, False, True, True),
        (roles.Role.SERVE, True, True, True),
        (roles.Role.CONTROLLER, True, True, False),
        (roles.Role.NODE, False, True, True),
        (roles.Role.NODE, True, False, True),
    ],
)
async def test_each_command_serves_the_services_of_its_role_alone(
    home: Path, role: roles.Role, *, shared: bool, makes: bool, mounts: bool
) -> None:
    async with running(role, home, shared_pools=shared) as channel:
        controller = csi_pb2_grpc.ControllerStub(channel).ControllerGetCapabilities(
            csi_pb2.ControllerGetCapabilitiesRequest()
        )
        node = csi_pb2_grpc.NodeStub(channel).NodeGetInfo(csi_pb2.NodeGetInfoRequest())
        served = {True: grpc.StatusCode.OK, False: grpc.StatusCode.UNIMPLEMENTED}
        assert (await code(controller), await code(node)) == (served[makes], served[mounts])


@as_root
async def test_what_is_deleted_is_purged_after_the_retention_that_was_set(home: Path) -> None:
    mode = csi_pb2.VolumeCapability.AccessMode(mode=csi_pb2.VolumeCapability.AccessMode.SINGLE_NODE_WRITER)
    capability = csi_pb2.VolumeCapability(mount=csi_pb2.VolumeCapability.MountVolume(), access_mode=mode)
    async with running(roles.Role.SERVE, home) as channel:
        stub = csi_pb2_grpc.ControllerStub(channel)
        made = await stub.CreateVolume(csi_pb2.CreateVolumeRequest(name="pvc-1", volume_capabilities=[capability]))
        await stub.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=made.volume.volume_id))
    trash = home / "pool" / "trash"
    assert len(list(trash.iterdir())) == 1

    async with running(roles.Role.SERVE, home, trash_retention="0s"):
        await until(lambda: not list(trash.iterdir()), what="the trash to be emptied")


@as_root
async def test_the_controller_drives_a_driver_that_runs_already(home: Path) -> None:
    async with apiserver.FakeApiServer() as api, running(roles.Role.SERVE, home):
        kubeconfig = home / "kubeconfig"
        kubeconfig.write_text(_KUBECONFIG % api.url)
        stop = asyncio.Event()
        flags = {
            "csi_endpoint": str(home / "csi.sock"),
            "kubeconfig": str(kubeconfig),
            "metrics_address": "127.0.0.1:0",
        }
        ended = asyncio.create_task(bootstrap.run(roles.Role.CONTROLLER, load(binding="controller", **flags), stop))
        api.create(objects.CLASSES, {"metadata": {"name": "fast"}, "provisioner": "directory.csi.provisioner"})
        where = "topology.directory.csi.provisioner/node"
        api.create(objects.NODES, {"metadata": {"name": "node1", "labels": {where: "node1"}}})
        driver = {"name": "directory.csi.provisioner", "nodeID": "node1", "topologyKeys": [where]}
        api.create(objects.CSI_NODES, {"metadata": {"name": "node1"}, "spec": {"drivers": [driver]}})
        asked = {"volume.kubernetes.io/storage-provisioner": "directory.csi.provisioner"}
        size = {"requests": {"storage": "1Mi"}}
        spec = {"accessModes": ["ReadWriteOnce"], "storageClassName": "fast", "resources": size}
        claim = {"metadata": {"name": "data", "namespace": "app", "annotations": asked}, "spec": spec}
        api.create(objects.CLAIMS, claim)
        await api.wait_for(lambda: api.list(objects.VOLUMES), 10)
        stop.set()
        await ended
        (volume,) = api.list(objects.VOLUMES)
        assert [path.name for path in (home / "pool" / "volumes").iterdir()] == [volume["spec"]["csi"]["volumeHandle"]]


def test_the_driver_is_named_after_its_backend_unless_it_is_given_a_name() -> None:
    assert load()[settings.Driver].name == "directory.csi.provisioner"
    assert load(backend="rbd")[settings.Driver].name == "rbd.csi.provisioner"
    assert load(backend="rbd", driver_name="ceph.example.org")[settings.Driver].name == "ceph.example.org"


@pytest.mark.parametrize(
    ("flags", "faults"),
    [
        ({}, ["--rbd-clusters"]),
        ({"rbd_clusters": "clusters.yaml"}, ["--rbd-clusters"]),
        ({"rbd_clusters": "/c", "instance": "a/b"}, ["--instance"]),
        ({"rbd_clusters": "/c", "instance": "a" * 17}, ["--instance"]),
        ({"rbd_clusters": "/c", "pool": "a=/srv/a", "shared_pools": True}, ["--pool", "--shared-pools"]),
        ({"rbd_clusters": "/c", "instance": "blue-1"}, []),
    ],
)
def test_what_is_wrong_with_the_settings_of_a_ceph_cluster_is_said_all_at_once(
    flags: dict[str, Any], faults: list[str]
) -> None:
    found = roles.faults(roles.Role.CONTROLLER, load(backend="rbd", **flags))
    assert [fault.partition(":")[0] for fault in found] == faults


async def test_a_controller_on_ceph_serves_before_any_cluster_is_known(home: Path) -> None:
    flags = {"pool": None, "init_pools": None, "backend": "rbd", "rbd_clusters": str(home / "clusters.yaml")}
    async with running(roles.Role.CONTROLLER, home, **flags) as channel:
        asked = csi_pb2.ControllerGetCapabilitiesRequest()
        assert await code(csi_pb2_grpc.ControllerStub(channel).ControllerGetCapabilities(asked)) is grpc.StatusCode.OK
        probe = csi_pb2_grpc.IdentityStub(channel).Probe(csi_pb2.ProbeRequest())
        assert await code(probe) is grpc.StatusCode.FAILED_PRECONDITION


_KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: c
clusters: [{name: k, cluster: {server: "%s"}}]
users: [{name: u, user: {}}]
contexts: [{name: c, context: {cluster: k, user: u}}]
"""


@pytest.mark.parametrize(
    ("role", "flags", "whose"),
    [
        (roles.Role.SERVE, {}, "cluster"),
        (roles.Role.CONTROLLER, {"shared_pools": True}, "cluster"),
        (roles.Role.NODE, {}, "node"),
        (roles.Role.NODE, {"shared_pools": True}, "none"),
        (roles.Role.NODE, {"watch": "none"}, "none"),
        (roles.Role.CONTROLLER, {"backend": "rbd"}, "cluster"),
        (roles.Role.NODE, {"backend": "rbd"}, "none"),
        (roles.Role.SERVE, {"watch": "node"}, "node"),
    ],
)
def test_claims_are_watched_by_one_kind_of_process_unless_told_otherwise(
    role: roles.Role, flags: dict[str, Any], whose: str
) -> None:
    assert roles.watch(role, load(**flags)) == whose


def test_every_setting_of_the_watcher_reaches_it() -> None:
    loaded = load(
        node_name="node1",
        binding="controller",
        volume_name_prefix="vol",
        extra_create_metadata="false",
        strict_topology="false",
        csi_timeout="11s",
        provision_workers="12",
        retry_interval_min="13s",
        retry_interval_max="14s",
    )
    reached = bootstrap._watcher_options(roles.Role.NODE, loaded)
    assert reached == options.Options(
        node_name="node1",
        binding="controller",
        volume_name_prefix="vol",
        extra_create_metadata=False,
        strict_topology=False,
        csi_timeout=11.0,
        workers=12,
        retry_min=13.0,
        retry_max=14.0,
        drain_timeout=reached.drain_timeout,
    )
    assert bootstrap._watcher_options(roles.Role.SERVE, loaded).node_name == ""


@as_root
@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({}, "/kubelet/plugins/directory.csi.provisioner/csi.sock"),
        ({"registration_socket": "/host/csi.sock"}, "/host/csi.sock"),
    ],
)
async def test_the_kubelet_is_told_the_sockets_path_on_the_host(
    home: Path, flags: dict[str, str], expected: str
) -> None:
    registry = home / "kubelet" / "plugins_registry"
    registry.mkdir(parents=True)
    socket = registry / "directory.csi.provisioner-reg.sock"
    async with running(roles.Role.SERVE, home, registration=True, kubelet_dir=str(home / "kubelet"), **flags):
        await until(socket.exists, what="the registration socket")
        async with aio.insecure_channel(f"unix:{socket}") as channel:
            stub = pluginregistration_pb2_grpc.RegistrationStub(channel)
            info = await stub.GetInfo(pluginregistration_pb2.InfoRequest())
    assert info.endpoint.removeprefix(str(home)) == expected
