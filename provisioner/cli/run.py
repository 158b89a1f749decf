"""The commands that run until they are told to stop: `serve`, `controller` and `node`."""

import asyncio
import signal
import sys

import click

from provisioner import bootstrap, errors, logs, settings
from provisioner.cli import options


def _run(role: bootstrap.Role, loaded: settings.Settings) -> None:
    logging = loaded[settings.Logging]
    logs.configure(level=logging.log_level, log_format=logging.log_format)
    try:
        asyncio.run(_until_signal(role, loaded))
    except errors.ProvisionerError as error:
        click.echo(f"provisioner: {error}", err=True)
        sys.exit(1)


async def _until_signal(role: bootstrap.Role, loaded: settings.Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await bootstrap.run(role, loaded, stop)


@click.command()
@options.with_settings(settings.ALL_GROUPS)
def serve(loaded: settings.Settings) -> None:
    """Run everything in one process: driver, node service and watcher.

    For a cluster of one node, or for pools that every node mounts.
    """
    _run(bootstrap.Role.SERVE, loaded)


@click.command()
@options.with_settings(settings.ALL_GROUPS)
def controller(loaded: settings.Settings) -> None:
    """Run the cluster's half: watcher and controller service, without a node's mounts.

    With --csi-endpoint it drives a CSI driver that runs already, its own or a stranger's.
    """
    _run(bootstrap.Role.CONTROLLER, loaded)


@click.command()
@options.with_settings(settings.ALL_GROUPS)
def node(loaded: settings.Settings) -> None:
    """Run a node's half: mounts, registration with the kubelet, and the claims scheduled to this node.

    The claims of a node are provisioned here where pools belong to the node; with --shared-pools the watcher of
    `controller` does it for all.
    """
    _run(bootstrap.Role.NODE, loaded)


COMMANDS = (serve, controller, node)
