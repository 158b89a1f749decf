"""The backends, by name: the one table that says which classes a `--backend` is made of.

With `bootstrap` it is all of the program that names concrete classes; a new backend is a package under `backends`, a
group of settings, and a line in the tables here and in `roles`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Protocol

from provisioner import errors, metrics, roles, settings
from provisioner.backends import base, commands, inventory
from provisioner.backends.directory import backend as directory_backend
from provisioner.backends.directory import config as directory_config
from provisioner.backends.rbd import backend as rbd_backend
from provisioner.backends.rbd import clusters
from provisioner.backends.rbd import config as rbd_config
from provisioner.backends.rbd import node as rbd_node
from provisioner.backends.rbd.attach import choice, records
from provisioner.backends.rbd.client import connections, librbd
from provisioner.csi import node as csi_node
from provisioner.node import device_service
from provisioner.node import service as node_service


class NodeService(csi_node.NodeService, Protocol):
    """The node half's work, which can be waited for at the end."""

    async def close(self) -> None:
        """Take no more calls and wait for the work that has begun."""


class Backend(base.Backend, Protocol):
    """A backend that keeps a trash, and can say what it holds."""

    def purge_expired(self) -> int:
        """Remove for good what has been in the trash for its retention; returns how many volumes were removed.

        To be called every minute. What is not done in time is done next time.
        """

    def inventory(self) -> inventory.Inventory:
        """What the storage holds, for people."""


@dataclasses.dataclass(frozen=True)
class Storage:
    """A backend, as one process uses it.

    Attributes:
        node_half: makes what serves this node's volumes; None where there is no such half.
        prepare: makes what has to be there before the first volume; None where nothing has.
        close: lets go of what the backend holds, at the end of the process.
    """

    backend: Backend
    node_half: Callable[[], NodeService] | None
    prepare: Callable[[], None] | None = None
    close: Callable[[], None] = lambda: None


def build(role: roles.Role, loaded: settings.Settings, measured: metrics.Metrics) -> Storage:
    """The storage of a process of this role. Nothing is opened yet, so nothing can be missing yet."""
    return _BUILDERS[loaded[settings.Driver].backend](role, loaded, measured)


def _directory(role: roles.Role, loaded: settings.Settings, measured: metrics.Metrics) -> Storage:
    driver, pools = loaded[settings.Driver], loaded[settings.Directory]
    own_node = None if pools.shared_pools or role is roles.Role.CONTROLLER else loaded[settings.Node].node_name
    backend = directory_backend.DirectoryBackend(
        directory_config.DirectoryConfig(
            pools=pools.pool,
            topology_key=f"topology.{driver.name}/node",
            node_name=own_node,
            spare=pools.pool_spare,
            memory=driver.csi_socket.parent,
            trash_retention=driver.trash_retention,
        ),
        measured,
    )
    return Storage(
        backend,
        lambda: node_service.NodeService(backend),
        prepare=backend.initialise if pools.init_pools else None,
    )


def _rbd(role: roles.Role, loaded: settings.Settings, measured: metrics.Metrics) -> Storage:
    given = loaded[settings.Rbd]
    if given.rbd_clusters is None:
        raise errors.InvalidRequestError("--rbd-clusters: say where the Ceph clusters are written")
    config = rbd_config.RbdConfig(
        clusters=given.rbd_clusters,
        instance=given.instance,
        trash_retention=loaded[settings.Driver].trash_retention,
    )
    connected = connections.Connections(librbd.LibradosCluster)
    backend = rbd_backend.RbdBackend(config, connected.get, measured)

    def node_half() -> NodeService:
        known = clusters.Clusters(config.clusters)
        attachers = choice.Choice(choice.all_attachers(commands.System()), measured, preferred=given.rbd_mounter)
        attachers.probe()
        kept = records.Records(given.rbd_run_dir)
        return device_service.DeviceNodeService(rbd_node.RbdNode(known, connected.get, attachers, kept))

    return Storage(backend, None if role is roles.Role.CONTROLLER else node_half, close=backend.close)


_BUILDERS: Mapping[str, Callable[[roles.Role, settings.Settings, metrics.Metrics], Storage]] = {
    "directory": _directory,
    "rbd": _rbd,
}
