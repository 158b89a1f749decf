"""The parameters of a StorageClass for RBD, as one typed object."""

import dataclasses
import datetime
import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, Self, get_args

import durationpy

from provisioner import errors, model
from provisioner.backends.rbd import context, ids
from provisioner.backends.rbd.client import api

OnDelete = Literal["trash", "purge", "retain"]

FEATURES = ("layering", "exclusive-lock", "object-map", "fast-diff", "deep-flatten", "journaling")
"""The features that a class may ask for; striping and a data pool bring their own."""

_REQUIRED = {"exclusive-lock": "keeps a volume to one writer", "layering": "snapshots and clones need"}
_NEEDS = {"fast-diff": "object-map"}
_KRBD_LACKS = frozenset({"journaling"})

_METADATA = "csi.storage.k8s.io/"
_FSTYPE = f"{_METADATA}fstype"
_FILESYSTEMS = ("ext4", "xfs")
_OBJECT_SIZES = (4 * model.KIB, 32 * model.MIB)
_NAMESPACE = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_-]{{0,{ids.NAMESPACE_LIMIT - 1}}}", re.ASCII)
_POOL = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]{0,127}", re.ASCII)
_MKFS_OPTION = re.compile(
    r"-[A-Za-z]|-[A-Za-z]?[A-Za-z0-9][A-Za-z0-9_,=.^:-]*|[A-Za-z0-9][A-Za-z0-9_,=.^:-]*", re.ASCII
)
_MAP_OPTION = re.compile(r"(?:(?:krbd|nbd|fuse):)?[a-z][a-z0-9_-]*(?:=[A-Za-z0-9_.:-]+)?", re.ASCII)
_SIZE = re.compile(r"(?P<number>\d{1,12})(?P<unit>|[KMG]i?)", re.ASCII)
_UNITS = {"": 1, "K": model.KIB, "M": model.MIB, "G": model.GIB}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What a class says about its volumes.

    Attributes:
        cluster: `clusterID`; empty takes the only one there is.
        data_pool: the pool for the data, where `pool` (erasure coding) cannot hold an image's header.
        features: by librbd's names.
        stripe_unit: in bytes, with `stripe_count`; both are 0 where nothing is striped.
        order: of the object size, which is 2 to its power; 0 is librbd's own default.
        trash_retention: None is the driver's own.
        fs_type: of the volumes; empty leaves it to the claim's capability.
        claim: namespace and name, for people only; empty where the watcher does not tell.
    """

    cluster: str = ""
    pool: str = ""
    namespace: str = ""
    data_pool: str = ""
    features: frozenset[str] = api.DEFAULT_FEATURES
    stripe_unit: int = 0
    stripe_count: int = 0
    order: int = 0
    mounter: context.Mounter = "auto"
    map_options: str = ""
    mkfs_options: str = ""
    fs_type: str = ""
    trash_retention: datetime.timedelta | None = None
    on_delete: OnDelete = "trash"
    claim: tuple[str, str] = ("", "")
    volume: str = ""

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> Self:
        """Read a class's parameters; the pool may be missing.

        Keys under `csi.storage.k8s.io/` are the watcher's and are not judged, but for the filesystem.

        Raises:
            errors.InvalidParameterError: a key is unknown, or a value is not one of those allowed.
        """
        fields: dict[str, object] = {}
        for key, value in own(given).items():
            reader = _READERS.get(key)
            if reader is None:
                raise errors.InvalidParameterError(
                    f"the StorageClass parameter {_shown(key)} is unknown", remedy=_nearest(key)
                )
            name, read = reader
            fields[name] = read(key, value)
        fields["claim"] = (given.get(f"{_METADATA}pvc/namespace", ""), given.get(f"{_METADATA}pvc/name", ""))
        fields["volume"] = given.get(f"{_METADATA}pv/name", "")
        made = cls(**fields)  # type: ignore[arg-type]  # Each reader returns what its field is.
        made._check_together()
        return made

    @property
    def layout(self) -> api.Layout:
        """How an image of this class keeps its data."""
        return api.Layout(
            features=self.features,
            data_pool=self.data_pool,
            order=self.order,
            stripe_unit=self.stripe_unit,
            stripe_count=self.stripe_count,
        )

    def _check_together(self) -> None:
        for name, purpose in _REQUIRED.items():
            if name not in self.features:
                raise _wrong("imageFeatures", f"lacks {name}, which {purpose}", f"add {name}")
        for name in sorted(self.features):
            needed = _NEEDS.get(name)
            if needed is not None and needed not in self.features:
                raise _wrong("imageFeatures", f"has {name} without {needed}", f"add {needed}, or leave {name} out")
        unmapped = _KRBD_LACKS & self.features
        if self.mounter == "krbd" and unmapped:
            raise _wrong(
                "imageFeatures",
                f"has {', '.join(sorted(unmapped))}, which the kernel cannot map, with mounter: krbd",
                "leave it out, or write mounter: nbd",
            )
        if bool(self.stripe_count) != bool(self.stripe_unit):
            raise _wrong("stripeUnit", "and stripeCount go together", "write both, or neither")
        size = 1 << self.order if self.order else 4 * model.MIB
        if self.stripe_unit and size % self.stripe_unit:
            raise _wrong(
                "stripeUnit", f"{self.stripe_unit} does not divide the object size, {size}", "write a power of two"
            )


def own(given: Mapping[str, str]) -> dict[str, str]:
    """The parameters that are the class's own: those that make a volume what it is."""
    return {key: value for key, value in given.items() if key == _FSTYPE or not key.startswith(_METADATA)}


def _text(_key: str, value: str) -> str:
    return value


def _pool(key: str, value: str) -> str:
    if _POOL.fullmatch(value) is None:
        raise _wrong(key, f"is {_shown(value)}", "write the name of a pool")
    return value


def _namespace(key: str, value: str) -> str:
    if value and _NAMESPACE.fullmatch(value) is None:
        raise _wrong(key, f"is {_shown(value)}", f"write up to {ids.NAMESPACE_LIMIT} letters, digits, '-' and '_'")
    return value


def _features(key: str, value: str) -> frozenset[str]:
    names = [name.strip() for name in value.split(",") if name.strip()]
    for name in names:
        if name not in FEATURES:
            near = difflib.get_close_matches(name, FEATURES, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise _wrong(key, f"has the unknown feature {_shown(name)}", f"{hint}The features are {_listed(FEATURES)}")
    return frozenset(names)


def _size(key: str, value: str) -> int:
    match = _SIZE.fullmatch(value)
    size = int(match["number"]) * _UNITS[match["unit"][:1]] if match else 0
    if size <= 0:
        raise _wrong(key, f"is {_shown(value)}", "write a number of bytes, such as 4194304 or 4Mi")
    return size


def _order(key: str, value: str) -> int:
    size = _size(key, value)
    least, most = _OBJECT_SIZES
    if size & (size - 1) or not least <= size <= most:
        raise _wrong(key, f"is {_shown(value)}", "write a power of two from 4Ki to 32Mi")
    return size.bit_length() - 1


def _count(key: str, value: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,3}", value, re.ASCII):
        raise _wrong(key, f"is {_shown(value)}", "write a number from 1 to 9999")
    return int(value)


def _one_of(allowed: tuple[str, ...]) -> Callable[[str, str], str]:
    def read(key: str, value: str) -> str:
        if value not in allowed:
            raise _wrong(key, f"is {_shown(value)}", f"write one of {', '.join(allowed)}")
        return value

    return read


def _duration(key: str, value: str) -> datetime.timedelta:
    try:
        found = durationpy.from_str(value)
    except (durationpy.DurationError, ValueError, OverflowError):
        found = datetime.timedelta(days=-1)
    if not datetime.timedelta() <= found <= datetime.timedelta(days=3650):
        raise _wrong(key, f"is {_shown(value)}", "write a duration, such as 24h or 30m")
    return found


def _map_options(key: str, value: str) -> str:
    for option in filter(None, value.replace(";", ",").split(",")):
        if _MAP_OPTION.fullmatch(option) is None:
            raise _wrong(key, f"has {_shown(option)}, which is no option", "write name=value pairs between commas")
    return value


def _mkfs_options(key: str, value: str) -> str:
    words = value.split()
    for word in words:
        if _MKFS_OPTION.fullmatch(word) is None:
            raise _wrong(
                key, f"has {_shown(word)}, which is no option of mkfs", "write options, such as -m0 -E nodiscard"
            )
    if words and not words[0].startswith("-"):
        raise _wrong(key, f"begins with {_shown(words[0])}, which is no option", "write options, such as -m0")
    return value


_READERS: Mapping[str, tuple[str, Callable[[str, str], object]]] = {
    "clusterID": ("cluster", _text),
    "pool": ("pool", _pool),
    "dataPool": ("data_pool", _pool),
    "radosNamespace": ("namespace", _namespace),
    "imageFeatures": ("features", _features),
    "stripeUnit": ("stripe_unit", _size),
    "stripeCount": ("stripe_count", _count),
    "objectSize": ("order", _order),
    "mounter": ("mounter", _one_of(get_args(context.Mounter))),
    "mapOptions": ("map_options", _map_options),
    "mkfsOptions": ("mkfs_options", _mkfs_options),
    _FSTYPE: ("fs_type", _one_of(_FILESYSTEMS)),
    "trashRetention": ("trash_retention", _duration),
    "onDelete": ("on_delete", _one_of(get_args(OnDelete))),
}


def _wrong(key: str, what: str, remedy: str) -> errors.InvalidParameterError:
    return errors.InvalidParameterError(f"the StorageClass parameter {key} {what}", remedy=remedy)


def _nearest(key: str) -> str:
    near = difflib.get_close_matches(key, _READERS, n=1)
    known = f"the parameters are {_listed(_READERS)}"
    return f"did you mean {near[0]}? T{known[1:]}" if near else known


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _shown(text: str) -> str:
    return ascii(text[:64])
