"""The commands that run until they are told to stop: `serve`, `controller` and `node`."""

import asyncio
import functools
import gc
import os
import signal
import sys
import threading
from typing import NoReturn

import click
import structlog

from provisioner import bootstrap, errors, logs, roles, settings
from provisioner.cli import options

_JOIN_SECONDS = 0.5
# A request leaves hundreds of short-lived objects and hardly a cycle; by default each 700 are searched for some.
_OBJECTS_BETWEEN_COLLECTIONS = 20_000


def _run(role: roles.Role, loaded: settings.Settings) -> None:
    logging = loaded[settings.Logging]
    logs.configure(level=logging.log_level, log_format=logging.log_format)
    _spare_the_collector()
    status = 0
    try:
        asyncio.run(_until_signal(role, loaded))
    except errors.ProvisionerError as error:
        click.echo(f"provisioner: {error}", err=True)
        status = 1
    _leave(status)


def _spare_the_collector() -> None:
    """Leave what was imported, which stays for good, out of every search for cycles, and search less often."""
    gc.freeze()
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)


def _leave(status: int) -> NoReturn:
    """End the process, also where a thread hangs in a system call on a dead disk: Python itself would wait for it."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(timeout=_JOIN_SECONDS)
            if thread.is_alive():
                structlog.get_logger(__name__).warning("thread_left_hanging", thread=thread.name)
                sys.stderr.flush()
                os._exit(status)
    sys.exit(status)


async def _until_signal(role: roles.Role, loaded: settings.Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await bootstrap.run(role, loaded, stop)


@click.command()
@options.with_settings(settings.ALL_GROUPS, functools.partial(roles.faults, roles.Role.SERVE))
def serve(loaded: settings.Settings) -> None:
    """Run everything in one process: driver, node service and watcher.

    For a cluster of one node, or for pools that every node mounts.
    """
    _run(roles.Role.SERVE, loaded)


@click.command()
@options.with_settings(settings.ALL_GROUPS, functools.partial(roles.faults, roles.Role.CONTROLLER))
def controller(loaded: settings.Settings) -> None:
    """Run the cluster's half: watcher and controller service, without a node's mounts.

    With --csi-endpoint it drives a CSI driver that runs already, its own or a stranger's.
    """
    _run(roles.Role.CONTROLLER, loaded)


@click.command()
@options.with_settings(settings.ALL_GROUPS, functools.partial(roles.faults, roles.Role.NODE))
def node(loaded: settings.Settings) -> None:
    """Run a node's half: mounts, registration with the kubelet, and the claims scheduled to this node.

    The claims of a node are provisioned here where pools belong to the node; with --shared-pools the watcher of
    `controller` does it for all.
    """
    _run(roles.Role.NODE, loaded)


COMMANDS = (serve, controller, node)
