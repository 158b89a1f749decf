"""What the commands that look into the storage have in common: settings, the storage itself, and readable failures."""

import contextlib
from collections.abc import Iterator

import click

from provisioner import errors, logs, metrics, roles, settings, storage

GROUPS = (settings.Driver, settings.Node, settings.Directory, settings.Rbd)


@contextlib.contextmanager
def opened(loaded: settings.Settings, role: roles.Role = roles.Role.CONTROLLER) -> Iterator[storage.Storage]:
    """The storage as a process of this role has it, let go of at the end.

    What goes wrong meanwhile ends the command with status 1, and says what to do.
    """
    logs.configure(level="error", log_format="console")
    found = storage.build(role, loaded, metrics.Metrics())
    try:
        yield found
    except errors.ProvisionerError as error:
        raise click.ClickException(str(error)) from error
    finally:
        found.close()
