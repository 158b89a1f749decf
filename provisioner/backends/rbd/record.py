"""What an image says of itself: its metadata, read into one typed object and written from it."""

import dataclasses
import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Self

from provisioner import errors, model
from provisioner.backends.rbd import ids, names

_SNAPSHOT = "provisioner.snapshot."


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A snapshot that CreateSnapshot took of the image.

    Attributes:
        name: the caller's.
        snapshot: what Ceph calls it.
        formatted: what was known of the filesystem then.
    """

    name: str
    snapshot: str
    size: int
    created: datetime.datetime
    formatted: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A volume, by its image's own word.

    Attributes:
        name: the caller's.
        size: in bytes, when we changed it last; of an image that is not in the trash, the image's own counts.
        capabilities: as `describe` puts them.
        parameters: of the class, without the watcher's.
        source: `snapshot:ID`, `volume:ID`, or empty.
        ready: whether it was made to the end.
        deleted: when DeleteVolume was obeyed; None where it was not, or where the image went into the trash at once.
        nodes: to which it is published, and whether `rw` or `ro`.
        retention: seconds in the trash.
        taken: its snapshots, by `ids.snapshot_digits`.
    """

    name: str
    size: int
    capabilities: tuple[str, ...]
    parameters: Mapping[str, str]
    source: str
    created: datetime.datetime
    ready: bool = True
    deleted: datetime.datetime | None = None
    claim: tuple[str, str] = ("", "")
    volume: str = ""
    depth: int = 0
    on_delete: str = "trash"
    retention: int
    nodes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    taken: Mapping[str, Taken] = dataclasses.field(default_factory=dict)
    formatted: str = ""

    @classmethod
    def parse(cls, metadata: Mapping[str, str], *, instance: str, image: str | None) -> Self | None:
        """Read an image's metadata; None where it is not of a volume of ours, or not yet.

        A clone has its source's metadata for a moment: the name in it is then not the image's.

        Args:
            instance: this Kubernetes cluster.
            image: the image's name; None where it is in the trash, or was given another name.

        Raises:
            errors.VolumeQuarantinedError: it is ours, and unreadable.
        """
        name = metadata.get(names.NAME)
        if metadata.get(names.INSTANCE) != instance or name is None:
            return None
        if image not in (None, ids.image_name(instance, name)):
            return None
        try:
            return cls._read(metadata, name)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise errors.VolumeQuarantinedError(
                f"the metadata of image {image or name} is unreadable ({type(error).__name__})",
                remedy="look at it with `rbd image-meta list`; the image is not touched",
            ) from error

    @classmethod
    def _read(cls, metadata: Mapping[str, str], name: str) -> Self:
        deleted = metadata.get(names.DELETED_AT, "")
        return cls(
            name=name,
            size=int(metadata[names.SIZE]),
            capabilities=tuple(_texts(json.loads(metadata[names.CAPABILITIES]))),
            parameters=_pairs(json.loads(metadata[names.PARAMETERS])),
            source=metadata.get(names.SOURCE, ""),
            created=datetime.datetime.fromisoformat(metadata[names.CREATED]),
            ready=metadata.get(names.STATE) == names.READY,
            deleted=datetime.datetime.fromisoformat(deleted) if deleted else None,
            claim=(metadata.get(names.PVC_NAMESPACE, ""), metadata.get(names.PVC_NAME, "")),
            volume=metadata.get(names.PV_NAME, ""),
            depth=int(metadata.get(names.DEPTH, "0")),
            on_delete=metadata.get(names.ON_DELETE, "trash"),
            retention=int(metadata[names.TRASH_RETENTION]),
            nodes=_pairs(json.loads(metadata.get(names.NODE) or "{}")),
            taken={key.removeprefix(_SNAPSHOT): _taken(metadata[key]) for key in metadata if key.startswith(_SNAPSHOT)},
            formatted=metadata.get(names.FORMATTED, ""),
        )

    def encode(self, instance: str) -> dict[str, str]:
        """The metadata of a new image."""
        pairs = {
            names.NAME: self.name,
            names.INSTANCE: instance,
            names.SIZE: str(self.size),
            names.CAPABILITIES: json.dumps(self.capabilities),
            names.PARAMETERS: json.dumps(self.parameters, sort_keys=True),
            names.SOURCE: self.source,
            names.CREATED: self.created.isoformat(),
            names.STATE: names.READY if self.ready else "",
            names.PVC_NAMESPACE: self.claim[0],
            names.PVC_NAME: self.claim[1],
            names.PV_NAME: self.volume,
            names.DEPTH: str(self.depth) if self.depth else "",
            names.ON_DELETE: self.on_delete,
            names.TRASH_RETENTION: str(self.retention),
            names.FORMATTED: self.formatted,
        }
        return {key: value for key, value in pairs.items() if value}


def encode_taken(taken: Taken) -> dict[str, str]:
    """The metadata that says that the snapshot was taken."""
    text = {
        "name": taken.name,
        "snapshot": taken.snapshot,
        "size": taken.size,
        "created": taken.created.isoformat(),
        "formatted": taken.formatted,
    }
    return {taken_key(ids.snapshot_digits(taken.name)): json.dumps(text)}


def taken_key(digits: str) -> str:
    """The key under which an image keeps what is known of one of its snapshots."""
    return f"{_SNAPSHOT}{digits}"


def describe(capabilities: Sequence[model.Capability]) -> tuple[str, ...]:
    """Capabilities as texts: mode, type and filesystem. Mount options are no property of a volume."""
    return tuple(
        sorted({"/".join(filter(None, (c.access_mode.value, c.access_type.value, c.fs_type))) for c in capabilities})
    )


def source_text(source: model.SnapshotId | model.VolumeId | None) -> str:
    """A volume's source as it is recorded."""
    if source is None:
        return ""
    return f"{'snapshot' if isinstance(source, model.SnapshotId) else 'volume'}:{source}"


def read_source(text: str) -> model.SnapshotId | model.VolumeId | None:
    """The reverse of `source_text`."""
    kind, _, value = text.partition(":")
    if not value:
        return None
    return model.SnapshotId(value) if kind == "snapshot" else model.VolumeId(value)


def _taken(text: str) -> Taken:
    found = json.loads(text)
    return Taken(
        name=str(found["name"]),
        snapshot=str(found["snapshot"]),
        size=int(found["size"]),
        created=datetime.datetime.fromisoformat(found["created"]),
        formatted=str(found.get("formatted", "")),
    )


def _texts(found: object) -> list[str]:
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise ValueError("not a list of texts")
    return found


def _pairs(found: object) -> dict[str, str]:
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ValueError("not a mapping of texts")
    return found
