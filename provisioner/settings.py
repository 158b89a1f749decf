"""The program's settings: frozen groups, read from a file, the environment and flags, in rising order of weight.

Each field is declared once, here, with its default and its help text; flags (`--driver-name`), variables
(`PROVISIONER_DRIVER_NAME`) and keys of the file (`driver-name:`) all follow from its name. Values come from mappings
that are passed in, so that nothing below `cli` reads the environment. Every fault is reported at once, each with the
name under which it was given.

Durations are written as Go and Kubernetes write them (`10s`, `1h30m`), sizes as Kubernetes quantities (`1Gi`).
"""

import dataclasses
import datetime
import difflib
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NewType, TypeVar

import durationpy
import msgspec

from provisioner import errors
from provisioner.kube import errors as kube_errors
from provisioner.kube import quantity

ENVIRONMENT_PREFIX = "PROVISIONER_"

Group = TypeVar("Group")

Bytes = NewType("Bytes", int)
"""A size, written as a Kubernetes quantity."""

Count = Annotated[int, msgspec.Meta(ge=1)]
"""A number of things of which there must be one at least."""


class SettingsError(errors.ProvisionerError):
    """One or more settings are wrong.

    Attributes:
        faults: one line for each, beginning with the name under which the value was given.
    """

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("the settings are wrong:\n" + "\n".join(f"  {fault}" for fault in faults))
        self.faults = tuple(faults)


def _setting(default: Any, text: str) -> Any:
    """A field with its help text."""
    return dataclasses.field(default=default, metadata={"help": text})


def seconds(value: float) -> datetime.timedelta:
    """A duration of so many seconds."""
    return datetime.timedelta(seconds=value)


@dataclasses.dataclass(frozen=True, slots=True)
class Logging:
    """What the process says of itself."""

    log_level: Literal["debug", "info", "warning", "error"] = _setting("info", "The least severe lines to print.")
    log_format: Literal["json", "console"] = _setting("json", "One JSON object a line, or lines for people.")


@dataclasses.dataclass(frozen=True, slots=True)
class Monitoring:
    """Where Prometheus and the kubelet's probes look."""

    metrics_address: str = _setting(
        ":9810", "Address of /metrics, /healthz and /readyz, as host:port; an empty host means every address."
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Driver:
    """The CSI driver."""

    backend: Literal["directory", "rbd"] = _setting(
        "directory", "Where volumes live: in directories of the nodes, or as images in a pool of Ceph."
    )
    driver_name: str = _setting(
        "", "The driver's name: the `provisioner` of its StorageClasses [default: <backend>.csi.provisioner]."
    )
    csi_socket: Path = _setting(
        Path("/csi/csi.sock"), "Unix socket on which the CSI services listen, as this process sees it."
    )
    csi_endpoint: Path | None = _setting(
        None, "Socket of a CSI driver that runs already; the watcher then drives it instead of one of our own."
    )
    csi_workers: Count = _setting(16, "Calls to the storage at a time; more wait for their turn.")
    trash_retention: datetime.timedelta = _setting(
        seconds(24 * 3600), "How long a deleted volume can be had back before its space is freed."
    )

    @property
    def name(self) -> str:
        """The driver's name, also where none was given."""
        return self.driver_name or f"{self.backend}.csi.provisioner"


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """This node, and its kubelet."""

    node_name: str = _setting("", "Name of the Node object this process runs on (the downward API has it).")
    kubelet_dir: Path = _setting(Path("/var/lib/kubelet"), "The kubelet's --root-dir, at the host's own path.")
    registration: bool = _setting(
        default=True, text="Register the driver with the kubelet; off where a stock registrar does it."
    )
    registration_socket: Path | None = _setting(
        None,
        "The CSI socket's path as the kubelet sees it [default: <kubelet-dir>/plugins/<driver-name>/csi.sock].",
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Directory:
    """The pools of the directory backend."""

    pool: Mapping[str, Path] = dataclasses.field(
        default_factory=dict,
        metadata={
            "help": "A pool and the directory that holds it, as name=path; several are separated by commas.",
        },
    )
    init_pools: bool = _setting(
        default=False,
        text="Make a pool in a directory that is empty or missing. Leave it off once the disks are set up: "
        "an unmounted disk is then noticed instead of filled.",
    )
    shared_pools: bool = _setting(
        default=False, text="The pools are the same mount on every node: volumes have no node of their own."
    )
    pool_spare: Bytes = _setting(
        Bytes(0), "Bytes of each pool that are never promised: for what others write to the same filesystem."
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Rbd:
    """The Ceph clusters of the RBD backend."""

    rbd_clusters: Path | None = _setting(
        None,
        "The Ceph clusters (clusterID, monitors, user, key) as a YAML file, or a directory of such files: a mounted "
        "Secret. It is read again when it changes.",
    )
    instance: str = _setting(
        "k8s", "Name of this Kubernetes cluster, which its images' names begin with: several can share a pool."
    )
    rbd_run_dir: Path = _setting(
        Path("/run/provisioner"), "Where this node keeps what it has attached: on a tmpfs, and seen by the host alike."
    )
    rbd_mounter: Literal["auto", "krbd", "nbd", "fuse"] = _setting(
        "auto", "How this node attaches images whose class leaves it open; `auto`: the first that works here."
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Kubernetes:
    """The way to the API server."""

    kubeconfig: Path | None = _setting(
        None, "A kubeconfig file [default: the service account of the Pod this process runs in]."
    )
    context: str = _setting("", "The kubeconfig's context [default: its current one].")
    request_timeout: datetime.timedelta = _setting(seconds(30), "Limit of one request to the API server.")


@dataclasses.dataclass(frozen=True, slots=True)
class Watcher:
    """How claims become volumes."""

    watch: Literal["auto", "cluster", "node", "none"] = _setting(
        "auto",
        "Whose claims this process provisions: all of the `cluster`, those scheduled to this `node`, or `none` "
        "(stock sidecars do it). `auto`: `node` for per-node pools under the command `node`, else `cluster`.",
    )
    binding: Literal["eager", "controller"] = _setting(
        "eager", "Bind claims at full speed when it is safe, or leave it all to the kube-controller-manager."
    )
    volume_name_prefix: str = _setting("pvc", "Volumes are named <prefix>-<uid of the claim>.")
    extra_create_metadata: bool = _setting(
        default=True,
        text="Tell the driver the names of claim and PersistentVolume, so that people find the volume.",
    )
    strict_topology: bool = _setting(default=True, text="Where a node was selected, make the volume there or nowhere.")
    csi_timeout: datetime.timedelta = _setting(seconds(10), "Limit of one CSI call; the same call is repeated after.")
    provision_workers: Count = _setting(100, "Claims worked on at a time, and as many deletions.")
    retry_interval_min: datetime.timedelta = _setting(seconds(1), "Wait before the first retry; it doubles.")
    retry_interval_max: datetime.timedelta = _setting(seconds(300), "The longest wait between two retries.")


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """One setting as it is declared: where flags, help texts and variables come from."""

    group: type
    name: str
    type: Any
    default: Any
    help: str

    @property
    def key(self) -> str:
        """Its name in the file, and after `--`."""
        return self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return ENVIRONMENT_PREFIX + self.name.upper()


def fields(groups: Sequence[type]) -> Iterator[Field]:
    """Every setting of these groups, in the order of their declaration."""
    for group in groups:
        hints, defaults = typing.get_type_hints(group, include_extras=True), group()
        for field in dataclasses.fields(group):
            yield Field(group, field.name, hints[field.name], getattr(defaults, field.name), field.metadata["help"])


class Settings:
    """The groups that were read; `settings[Driver].driver_name`."""

    def __init__(self, groups: Mapping[type, Any]) -> None:
        self._groups = groups

    def __getitem__(self, group: type[Group]) -> Group:
        found: Group = self._groups[group]
        return found


def load(
    groups: Sequence[type],
    *,
    file: Mapping[str, Any],
    environment: Mapping[str, str],
    flags: Mapping[str, Any],
    check: Callable[[Settings], Sequence[str]] = lambda _settings: (),
) -> Settings:
    """Read the groups from the three sources.

    Args:
        check: finds what is wrong with settings that are each right, as faults that begin with `--<key>:`. It sees
            the default where a value is wrong, and what it says of that setting is left out.
        file: by key (`driver-name`); unknown keys are faults.
        environment: by variable; what it holds besides is other programs' affair.
        flags: by field name (`driver_name`); None means not given.

    Raises:
        SettingsError: with every fault there is.
    """
    faults: list[str] = []
    wrong: set[str] = set()
    values: dict[type, dict[str, Any]] = {group: {} for group in groups}
    known = list(fields(groups))
    faults.extend(_unknown_keys(file, {field.key for group in ALL_GROUPS for field in fields([group])}))
    for field in known:
        for source, raw in (
            (f"--{field.key}", flags.get(field.name)),
            (field.variable, environment.get(field.variable)),
            (f"{field.key} (in the file)", file.get(field.key)),
        ):
            if raw is None:
                continue
            try:
                values[field.group][field.name] = _convert(raw, field.type)
            except ValueError as error:
                faults.append(f"{source}: {error}")
                wrong.add(f"--{field.key}")
            break
    loaded = Settings({group: group(**values[group]) for group in groups})
    faults.extend(fault for fault in check(loaded) if fault.partition(":")[0] not in wrong)
    if faults:
        raise SettingsError(faults)
    return loaded


def _unknown_keys(file: Mapping[str, Any], known: set[str]) -> Iterator[str]:
    for key in file:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            yield f"{key} (in the file): there is no such setting" + (f"; did you mean {near[0]}?" if near else "")


def _convert(raw: Any, wanted: Any) -> Any:
    """The value in the type that is wanted.

    Raises:
        ValueError: it has no such reading; the text says why.
    """
    if wanted is datetime.timedelta:
        return _duration(raw)
    if wanted is Bytes:
        return _size(raw)
    if typing.get_origin(wanted) is Mapping or wanted is Mapping:
        raw, wanted = _pairs(raw), dict[str, Path]
    if typing.get_origin(wanted) is types.UnionType and raw == "":
        return None
    try:
        return msgspec.convert(raw, wanted, strict=False, dec_hook=_from_text)
    except msgspec.ValidationError as error:
        raise ValueError(f"{raw!r} is not {_description(wanted)}") from error


def _description(wanted: Any) -> str:
    """What would have been right, for a reader who does not know Python."""
    if typing.get_origin(wanted) is Literal:
        return "one of " + ", ".join(typing.get_args(wanted))
    if wanted == dict[str, Path]:
        return "of the form name=path,name=path"
    return _DESCRIPTIONS.get(wanted, "a path")


_DESCRIPTIONS = {bool: "true or false", Count: "a whole number from 1 on", str: "a text"}


def _from_text(wanted: type, raw: Any) -> Any:
    if wanted is Path and isinstance(raw, str) and raw:
        return Path(raw)
    raise ValueError(f"expected {wanted.__name__}")


def _duration(raw: Any) -> datetime.timedelta:
    try:
        value: datetime.timedelta = durationpy.from_str(str(raw))
    except durationpy.DurationError as error:
        raise ValueError(f"{raw!r} is not a duration such as 10s, 5m or 1h30m") from error
    if value < datetime.timedelta(0):
        raise ValueError(f"{raw!r} is negative")
    return value


def _size(raw: Any) -> int:
    try:
        value = quantity.parse(str(raw))
    except kube_errors.QuantityError as error:
        raise ValueError(f"{raw!r} is not a size such as 10Gi or 500M") from error
    if value < 0:
        raise ValueError(f"{raw!r} is negative")
    return value


def _pairs(raw: Any) -> Mapping[str, Any]:
    if isinstance(raw, Mapping):
        return raw
    pairs = [part.partition("=") for part in str(raw).split(",")]
    if not all(name and path for name, _, path in pairs):
        raise ValueError(f"{raw!r} is not of the form name=path,name=path")
    names = [name for name, _, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError(f"{raw!r} names one pool twice")
    return {name: path for name, _, path in pairs}


ALL_GROUPS = (Logging, Monitoring, Driver, Node, Directory, Rbd, Kubernetes, Watcher)
