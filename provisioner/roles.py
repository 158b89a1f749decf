"""What a process can be, and which settings go together for it."""

import collections
import enum
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from provisioner import errors, health, settings

_DRIVER_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")
_DRIVER_NAME_LIMIT = 63
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
    return "none" if loaded[settings.Directory].shared_pools else "node"


def faults(role: Role, loaded: settings.Settings) -> Sequence[str]:
    """What is wrong with settings that can each be read, for a process of this role; `settings.load` asks."""
    found: list[str] = []
    driver, pools = loaded[settings.Driver], loaded[settings.Directory]
    stranger = driver.csi_endpoint is not None
    try:
        health.parse_address(loaded[settings.Monitoring].metrics_address)
    except errors.InvalidRequestError as error:
        found.append(f"--metrics-address: {error}")
    if stranger and role is not Role.CONTROLLER:
        found.append("--csi-endpoint: only the command `controller` drives a driver that runs already")
    if not stranger and not pools.pool:
        found.append("--pool: name at least one, such as default=/var/lib/provisioner/pool")
    if not _is_driver_name(driver.driver_name):
        found.append(
            f"--driver-name: {driver.driver_name!r} is not a name of up to 63 lower-case letters, digits, '-' and '.'"
        )
    found.extend(
        f"--pool: {path} is the directory of several pools" for path, times in _places(pools.pool) if times > 1
    )
    found.extend(f"--pool: {path} is not an absolute path" for path in pools.pool.values() if not path.is_absolute())
    found.extend(
        f"--pool: {name!r} is not a name of lower-case letters, digits and '-'"
        for name in pools.pool
        if not _POOL_NAME.fullmatch(name)
    )
    found.extend(_time_faults(loaded))
    if role is not Role.CONTROLLER and not loaded[settings.Node].node_name:
        found.append("--node-name: say on which node this is (in a Pod: the downward API's spec.nodeName)")
    if role is Role.CONTROLLER and not stranger and not pools.shared_pools:
        found.append("--shared-pools: without it the pools are a node's own, and the command `node` serves them")
    return found


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
