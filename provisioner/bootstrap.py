"""The composition root: says what each command is made of. Which classes a backend is made of, `storage` says.

    command      CSI services                     watcher
    serve        Identity, Controller, Node       of the cluster
    controller   Identity, Controller             of the cluster (or of a stranger's driver, by --csi-endpoint)
    node         Identity, Node, and Controller   of this node, where
                 where volumes are a node's own   volumes are its own

The parts start from the storage up to the watcher, and stop the other way round: no claim is begun that the driver
could not finish any more.
"""

import asyncio
import importlib.metadata
from collections.abc import Callable

from provisioner import (
    csiclient,
    errors,
    health,
    metrics,
    probing,
    roles,
    settings,
    storage,
    supervise,
    volumes,
    workpool,
)
from provisioner.controllers import options, watcher
from provisioner.csi import controller, identity, node, registration, server
from provisioner.kube import client as kube_client
from provisioner.kube import config as kube_config

_GRACE_SECONDS = 8.5
_WATCHER_DRAIN_SECONDS = 5.0
_CSI_DRAIN_SECONDS = 2.0
_PURGE_SECONDS = 60.0
# What the storage gets to be prepared before the driver answers calls; a disk that hangs holds nothing else up.
_PREPARE_SECONDS = 5.0


async def run(role: roles.Role, loaded: settings.Settings, stop: asyncio.Event) -> None:
    """Be `role` until `stop` is set, then drain and return within 10 seconds.

    Raises:
        errors.ProvisionerError: an address or a socket is taken.
    """
    measured = metrics.Metrics()
    face = health.HealthServer(loaded[settings.Monitoring].metrics_address, measured.registry)
    parts: list[supervise.Part] = [face]
    if not loaded[settings.Driver].csi_endpoint:
        parts.extend(_driver_parts(role, loaded, measured, face))
    if roles.watch(role, loaded) != "none":
        parts.append(_watcher_part(role, loaded, measured, face))
    await supervise.run(parts, stop, grace=_GRACE_SECONDS)


def _driver_parts(
    role: roles.Role, loaded: settings.Settings, measured: metrics.Metrics, face: health.HealthServer
) -> list[supervise.Part]:
    """The storage and the CSI services before it."""
    own, stored = loaded[settings.Driver], storage.build(role, loaded, measured)
    backend = stored.backend
    service = volumes.VolumeService(backend, workers=own.csi_workers)
    face.add_ready("storage", probing.Probing(service.probe).check)
    makes_volumes = roles.makes_volumes(role, loaded)
    mounts = stored.node_half() if stored.node_half and role is not roles.Role.CONTROLLER else None
    csi_server = server.Server(
        own.csi_socket,
        identity=identity.Identity(
            name=own.name,
            version=importlib.metadata.version("provisioner"),
            features=backend.features,
            probe=service.probe,
            controller=makes_volumes,
        ),
        controller=controller.Controller(service) if makes_volumes else None,
        node=node.Node(mounts, node_id=loaded[settings.Node].node_name, features=backend.features) if mounts else None,
        measured=measured,
    )
    parts: list[supervise.Part] = []
    if stored.prepare is not None:
        parts.append(_prepare_part(stored.prepare))
    if makes_volumes:
        parts.append(_trash_part(backend))
    parts.append(_Services(csi_server, service, mounts, stored.close))
    if mounts is not None and loaded[settings.Node].registration:
        parts.append(_registration_part(loaded, measured, face))
    return parts


def _prepare_part(prepare: Callable[[], None]) -> supervise.Part:
    """Makes what has to be there before the first volume: a directory's pools."""

    async def run_once(came_up: Callable[[], None]) -> None:
        threads = workpool.WorkPool(name="pools", mutating=1, reading=1)
        try:
            await threads.read(prepare)
        finally:
            threads.abandon()
        came_up()
        await asyncio.Event().wait()

    return supervise.Kept("pools", run_once, patience=_PREPARE_SECONDS)


def _trash_part(backend: storage.Backend) -> supervise.Part:
    """Empties the trash of what has expired, also where some of the storage cannot be reached.

    A purge that the end of the process cuts off goes on after the next start; nobody waits for it.
    """

    async def purge(came_up: Callable[[], None]) -> None:
        threads = workpool.WorkPool(name="trash", mutating=1, reading=1)
        came_up()
        try:
            while True:
                await threads.read(backend.purge_expired)
                await asyncio.sleep(_PURGE_SECONDS)
        finally:
            threads.abandon()

    return supervise.Kept("trash", purge)


class _Services:
    """The CSI services as one part: what is still at work behind them is waited for when they stop."""

    def __init__(
        self,
        csi_server: server.Server,
        service: volumes.VolumeService,
        mounts: storage.NodeService | None,
        close: Callable[[], None],
    ) -> None:
        self._server, self._service, self._mounts, self._close = csi_server, service, mounts, close

    async def start(self) -> None:
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(_CSI_DRAIN_SECONDS)
        await self._service.close()
        if self._mounts is not None:
            await self._mounts.close()
        self._close()


def _registration_part(
    loaded: settings.Settings, measured: metrics.Metrics, face: health.HealthServer
) -> supervise.Part:
    own, host = loaded[settings.Driver], loaded[settings.Node]
    endpoint = host.registration_socket or (
        own.csi_socket
        if own.csi_socket.is_relative_to(host.kubelet_dir)
        else host.kubelet_dir / "plugins" / own.name / own.csi_socket.name
    )
    registered = registration.Registration(
        driver=own.name, endpoint=endpoint, registry=host.kubelet_dir / "plugins_registry", measured=measured
    )

    async def register(came_up: Callable[[], None]) -> None:
        await registered.start()
        came_up()
        try:
            await asyncio.Event().wait()
        finally:
            await registered.stop()

    part = supervise.Kept("kubelet registration", register)

    async def ready() -> None:
        await part.ready()
        if not registered.registered:
            raise errors.BackendUnavailableError(
                f"the kubelet refused the driver: {registered.refusal}"
                if registered.refusal
                else "the kubelet has not registered the driver yet"
            )

    face.add_ready("kubelet", ready)
    return part


def _watcher_part(
    role: roles.Role, loaded: settings.Settings, measured: metrics.Metrics, face: health.HealthServer
) -> supervise.Part:
    own, cluster = loaded[settings.Driver], loaded[settings.Kubernetes]
    choices = _watcher_options(role, loaded)
    current: watcher.Watcher | None = None

    async def follow(came_up: Callable[[], None]) -> None:
        nonlocal current
        source = kube_config.load(cluster.kubeconfig, cluster.context or None)
        api = kube_client.Client(source, timeout=cluster.request_timeout.total_seconds(), metrics=measured)
        driver = csiclient.GrpcClient(str(own.csi_endpoint or own.csi_socket), measured=measured)
        current = watcher.Watcher(api, driver, choices, measured)
        came_up()
        try:
            await current.run()
        finally:
            current = None
            await driver.close()
            await api.close()

    part = supervise.Kept("watcher", follow)

    async def ready() -> None:
        await part.ready()
        if current is not None:
            await current.check()

    face.add_ready("watcher", ready)
    return part


def _watcher_options(role: roles.Role, loaded: settings.Settings) -> options.Options:
    chosen = loaded[settings.Watcher]
    return options.Options(
        node_name=loaded[settings.Node].node_name if roles.watch(role, loaded) == "node" else "",
        binding=chosen.binding,
        volume_name_prefix=chosen.volume_name_prefix,
        extra_create_metadata=chosen.extra_create_metadata,
        strict_topology=chosen.strict_topology,
        csi_timeout=chosen.csi_timeout.total_seconds(),
        workers=chosen.provision_workers,
        retry_min=chosen.retry_interval_min.total_seconds(),
        retry_max=chosen.retry_interval_max.total_seconds(),
        drain_timeout=_WATCHER_DRAIN_SECONDS,
    )
