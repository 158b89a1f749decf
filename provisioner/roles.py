"""What a process can be, and which settings go together for it."""

import collections
import dataclasses
import enum
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from provisioner import errors, health, settings

_DRIVER_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")
_DRIVER_NAME_LIMIT = 63
_INSTANCE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,14}[A-Za-z0-9])?", re.ASCII)
_POOL_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


class Role(enum.Enum):
    """What one process is to be; the commands' names."""

    SERVE = "serve"
    CONTROLLER = "controller"
    NODE = "node"


def watch(role: Role, loaded: settings.Settings) -> str:
    """Whose claims a process of this role provisions: of the `cluster`, of this `node`, or `none`."""
    chosen = loaded[settings.Watcher].watch
    if chosen != "auto":
        return chosen
    if role is not Role.NODE:
        return "cluster"
    return "node" if makes_volumes(role, loaded) else "none"


def makes_volumes(role: Role, loaded: settings.Settings) -> bool:
    """Whether a process of this role makes volumes; one of a node does where volumes are that node's own."""
    return role is not Role.NODE or _kind(loaded).is_of_a_node(loaded)


def faults(role: Role, loaded: settings.Settings) -> Sequence[str]:
    """What is wrong with settings that can each be read, for a process of this role; `settings.load` asks."""
    found: list[str] = []
    driver = loaded[settings.Driver]
    stranger = driver.csi_endpoint is not None
    try:
        health.parse_address(loaded[settings.Monitoring].metrics_address)
    except errors.InvalidRequestError as error:
        found.append(f"--metrics-address: {error}")
    if stranger and role is not Role.CONTROLLER:
        found.append("--csi-endpoint: only the command `controller` drives a driver that runs already")
    if not _is_driver_name(driver.name):
        found.append(
            f"--driver-name: {driver.name!r} is not a name of up to 63 lower-case letters, digits, '-' and '.'"
        )
    found.extend(storage_faults(loaded) if not stranger else ())
    found.extend(_time_faults(loaded))
    if role is not Role.CONTROLLER and not loaded[settings.Node].node_name:
        found.append("--node-name: say on which node this is (in a Pod: the downward API's spec.nodeName)")
    if role is Role.CONTROLLER and not stranger and _kind(loaded).is_of_a_node(loaded):
        found.append("--shared-pools: without it the pools are a node's own, and the command `node` serves them")
    return found


def storage_faults(loaded: settings.Settings) -> Iterable[str]:
    """What is wrong with the settings of the storage: the chosen backend's own, and those of another backend."""
    chosen = loaded[settings.Driver].backend
    yield from _kind(loaded).faults(loaded)
    for name, kind in _KINDS.items():
        if name != chosen:
            for field in settings.fields([kind.group]):
                if getattr(loaded[kind.group], field.name) != field.default:
                    yield f"--{field.key}: it belongs to --backend={name}, and this is --backend={chosen}"


def _directory_faults(loaded: settings.Settings) -> Iterable[str]:
    pools = loaded[settings.Directory].pool
    if not pools:
        yield "--pool: name at least one, such as default=/var/lib/provisioner/pool"
    for path, times in _places(pools):
        if times > 1:
            yield f"--pool: {path} is the directory of several pools"
    for root in pools.values():
        if not root.is_absolute():
            yield f"--pool: {root} is not an absolute path"
    for name in pools:
        if not _POOL_NAME.fullmatch(name):
            yield f"--pool: {name!r} is not a name of lower-case letters, digits and '-'"


def _rbd_faults(loaded: settings.Settings) -> Iterable[str]:
    given = loaded[settings.Rbd]
    if given.rbd_clusters is None:
        yield "--rbd-clusters: say where the Ceph clusters are written, such as /etc/provisioner/clusters.yaml"
    elif not given.rbd_clusters.is_absolute():
        yield f"--rbd-clusters: {given.rbd_clusters} is not an absolute path"
    if not _INSTANCE.fullmatch(given.instance):
        yield f"--instance: {given.instance!r} is not a name of 1 to 16 letters, digits, '-' and '_'"


@dataclasses.dataclass(frozen=True)
class _Kind:
    """What a process has to know of a backend beside its contract.

    Attributes:
        group: its settings.
        faults: what is wrong with them.
        is_of_a_node: whether its volumes are made by the node that has them.
    """

    group: type
    faults: Callable[[settings.Settings], Iterable[str]]
    is_of_a_node: Callable[[settings.Settings], bool]


_KINDS: Mapping[str, _Kind] = {
    "directory": _Kind(settings.Directory, _directory_faults, lambda given: not given[settings.Directory].shared_pools),
    "rbd": _Kind(settings.Rbd, _rbd_faults, lambda _given: False),
}


def _kind(loaded: settings.Settings) -> _Kind:
    return _KINDS[loaded[settings.Driver].backend]


def _time_faults(loaded: settings.Settings) -> Iterable[str]:
    chosen = loaded[settings.Watcher]
    for flag, value in (
        ("--csi-timeout", chosen.csi_timeout),
        ("--request-timeout", loaded[settings.Kubernetes].request_timeout),
        ("--retry-interval-min", chosen.retry_interval_min),
    ):
        if not value:
            yield f"{flag}: it must be longer than nothing"
    if chosen.retry_interval_max < chosen.retry_interval_min:
        yield "--retry-interval-max: it is shorter than --retry-interval-min"


def _is_driver_name(name: str) -> bool:
    """Whether it can be in the name of a socket and of a topology key (CSI: GetPluginInfoResponse.name)."""
    return len(name) <= _DRIVER_NAME_LIMIT and _DRIVER_NAME.fullmatch(name) is not None


def _places(pools: Mapping[str, Path]) -> Iterable[tuple[str, int]]:
    """Each directory, and how many pools are said to be in it."""
    return collections.Counter(os.path.normpath(path) for path in pools.values()).items()
