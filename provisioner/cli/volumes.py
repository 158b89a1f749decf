"""`provisioner volumes`: which volume belongs to which claim, and the other way round."""

import asyncio
import datetime
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click
from rich import console, table, text

from provisioner import errors, metrics, roles, settings, storage
from provisioner.backends import inventory
from provisioner.cli import options, session
from provisioner.kube import client as kube_client
from provisioner.kube import config as kube_config
from provisioner.kube import objects, quantity

_GROUPS = (*session.GROUPS, settings.Kubernetes)
_GRACE = datetime.timedelta(minutes=10)
"""A volume as young as this may have its PersistentVolume written at this moment."""

_WIDE = 400


def _faults(loaded: settings.Settings) -> Sequence[str]:
    return tuple(roles.storage_faults(loaded))


@click.command()
@click.argument("name", required=False)
@click.option("--output", "-o", type=click.Choice(["table", "json"]), default="table", help="For people, or programs.")
@click.option("--trash", is_flag=True, help="Show the deleted volumes that can be had back.")
@click.option("--orphans", is_flag=True, help="Show the volumes that no PersistentVolume names; asks the API server.")
@click.option("--discard", is_flag=True, help="With --orphans: move those that are shown to the trash.")
@options.with_settings(_GROUPS, _faults)
def volumes(
    loaded: settings.Settings, name: str | None, output: str, *, trash: bool, orphans: bool, discard: bool
) -> None:
    """List the volumes of the storage, each with the claim it was made for.

    NAME shows one: by its claim (namespace/name), its PersistentVolume, its id, or where it lies.

    It reads the storage, not the API server: with directories, those of the node it runs on.
    """
    if trash and orphans:
        raise click.UsageError("--trash and --orphans exclude each other")
    if discard and not orphans:
        raise click.UsageError("--discard goes with --orphans alone")
    with session.opened(loaded) as stored:
        found = [
            entry
            for entry in stored.backend.inventory().entries()
            if (entry.state is inventory.State.TRASH) == trash and (name is None or _is_called(entry, name))
        ]
        if orphans:
            now = datetime.datetime.now(datetime.UTC)
            found = list(inventory.orphans(found, _handles(loaded), grace=_GRACE, now=now))
        if name is not None and not found:
            raise errors.VolumeNotFoundError(f"there is no volume {name}" + (" in the trash" if trash else ""))
        _show(sorted(found, key=_order), output)
        if discard:
            _discard(stored, found)


def _is_called(entry: inventory.Entry, name: str) -> bool:
    return name in (entry.claim, entry.name, str(entry.id), entry.where, entry.where.rpartition("/")[2])


def _order(entry: inventory.Entry) -> tuple[str, str, str]:
    return entry.claim, entry.name, entry.where


def _handles(loaded: settings.Settings) -> frozenset[str]:
    """The ids that the cluster's PersistentVolumes of our driver name."""
    return asyncio.run(_read_handles(loaded[settings.Kubernetes], loaded[settings.Driver].name))


async def _read_handles(cluster: settings.Kubernetes, driver: str) -> frozenset[str]:
    source = kube_config.load(cluster.kubeconfig, cluster.context or None)
    api = kube_client.Client(source, timeout=cluster.request_timeout.total_seconds(), metrics=metrics.Metrics())
    found: set[str] = set()
    try:
        token: str | None = None
        while token != "":
            page = await api.list(objects.VOLUMES, continue_=token)
            sources = (volume.spec.csi for volume in page.items)
            found.update(source.volume_handle for source in sources if source is not None and source.driver == driver)
            token = page.continue_
    finally:
        await api.close()
    return frozenset(found)


def _discard(stored: storage.Storage, orphans: Iterable[inventory.Entry]) -> None:
    for entry in orphans:
        stored.backend.delete(entry.id)
        click.echo(f"{entry.id} is in the trash; provisioner restore {entry.id} brings it back", err=True)


def _show(entries: Sequence[inventory.Entry], output: str) -> None:
    if output == "json":
        click.echo(json.dumps({"volumes": [_described(entry) for entry in entries]}, indent=2))
        return
    shown = table.Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("CLAIM", "PERSISTENTVOLUME", "SIZE", "STATE", "WHERE", "ID"):
        shown.add_column(heading, no_wrap=True, justify="right" if heading == "SIZE" else "left")
    for entry in entries:
        size = quantity.format(entry.size) if entry.size else "-"
        cells = (entry.claim or "-", entry.name or "-", size, _state(entry), entry.where, str(entry.id))
        shown.add_row(*(text.Text(cell) for cell in cells))
    # Where nobody looks, a line is as long as it has to be.
    console.Console(width=None if sys.stdout.isatty() else _WIDE).print(shown)


def _state(entry: inventory.Entry) -> str:
    if entry.expires is None:
        return entry.state.value
    return f"{entry.state.value} until {entry.expires:%Y-%m-%d %H:%M:%S}Z"


def _described(entry: inventory.Entry) -> Mapping[str, Any]:
    return {
        "id": str(entry.id),
        "persistentVolume": entry.name,
        "claim": entry.claim,
        "where": entry.where,
        "bytes": entry.size,
        "state": entry.state.value,
        "accessModes": list(entry.access_modes),
        "volumeMode": "Block" if entry.block else "Filesystem",
        "created": _written(entry.created),
        "deleted": _written(entry.deleted),
        "expires": _written(entry.expires),
    }


def _written(moment: datetime.datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(datetime.UTC).isoformat()
