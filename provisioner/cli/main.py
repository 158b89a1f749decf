"""The program's entry: its commands, and what they have in common."""

import importlib.metadata

import click

from provisioner.cli import restore, run, volumes


@click.group(
    commands=(*run.COMMANDS, volumes.volumes, restore.restore),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(importlib.metadata.version("provisioner"), message="%(version)s")
def main() -> None:
    """Give a Kubernetes cluster dynamic volumes.

    Each setting below a command can be a flag, an environment variable (PROVISIONER_ and the flag's name in capitals,
    with underscores) or a key of the --config file (the flag's name without its dashes); a flag wins over the
    environment, and the environment over the file.
    """
