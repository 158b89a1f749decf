"""`provisioner restore`: a deleted volume back from the trash, with the manifest that makes a claim of it again."""

from collections.abc import Sequence
from typing import Any

import click
import yaml

from provisioner import model, roles, settings
from provisioner.backends import inventory
from provisioner.cli import options, session
from provisioner.kube import quantity

_PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"


def _faults(loaded: settings.Settings) -> Sequence[str]:
    found = list(roles.storage_faults(loaded))
    if roles.makes_volumes(roles.Role.NODE, loaded) and not loaded[settings.Node].node_name:
        found.append("--node-name: say whose volumes these are (in a Pod of the node's process it is set)")
    return found


@click.command()
@click.argument("volume")
@click.option("--name", default="", help="Another name for the volume, where its own is taken.")
@options.with_settings(session.GROUPS, _faults)
def restore(loaded: settings.Settings, volume: str, name: str) -> None:
    """Take a deleted volume out of the trash, and print the manifest of a claim that has it.

    VOLUME is the id that `provisioner volumes --trash` shows. Nothing is written to the cluster:

        provisioner restore ID | kubectl apply -f -
    """
    with session.opened(loaded, roles.Role.SERVE) as stored:
        entry = stored.backend.inventory().restore(model.VolumeId.parse(volume), name)
        manifest = _manifest(entry, stored.backend.get(entry.id), loaded[settings.Driver].name)
    click.echo(f"volume {entry.id} is back at {entry.where}; apply what follows to use it", err=True)
    click.echo(yaml.safe_dump_all(manifest, sort_keys=False), nl=False)


def _manifest(entry: inventory.Entry, volume: model.Volume, driver: str) -> list[dict[str, Any]]:
    """The PersistentVolume, and the claim that it is kept for where that is known.

    Both name no class, so that no class of today has a say in a volume of yesterday; and whoever deletes the claim
    once more keeps the data.
    """
    namespace, _, claim = entry.claim.rpartition("/")
    shape = {
        "accessModes": list(entry.access_modes) or ["ReadWriteOnce"],
        "volumeMode": "Block" if entry.block else "Filesystem",
        "storageClassName": "",
    }
    size = quantity.format(volume.size)
    spec: dict[str, Any] = {
        "capacity": {"storage": size},
        **shape,
        "persistentVolumeReclaimPolicy": "Retain",
        "csi": _source(entry, volume, driver),
    }
    if volume.topologies:
        spec["nodeAffinity"] = {"required": {"nodeSelectorTerms": [_term(place) for place in volume.topologies]}}
    persistent = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": entry.name, "annotations": {_PROVISIONED_BY: driver}},
        "spec": spec,
    }
    if not namespace:
        return [persistent]
    reference = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace, "name": claim}
    spec["claimRef"] = reference
    asked = {**shape, "volumeName": entry.name, "resources": {"requests": {"storage": size}}}
    kept_for = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": claim, "namespace": namespace},
        "spec": asked,
    }
    return [persistent, kept_for]


def _source(entry: inventory.Entry, volume: model.Volume, driver: str) -> dict[str, Any]:
    """Where the volume is; without a filesystem's type, the one that is on it is taken."""
    source: dict[str, Any] = {"driver": driver, "volumeHandle": str(entry.id)}
    if volume.context:
        source["volumeAttributes"] = dict(volume.context)
    return source


def _term(place: model.Topology) -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": "In", "values": [value]} for key, value in place.segments]}
