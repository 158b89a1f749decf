"""What the node's half of the driver is asked for: values, checked when they came in.

Secrets are never logged and never stored, and take no part in comparisons.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from provisioner import model


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StageRequest:
    """What NodeStageVolume asks for.

    Attributes:
        staging: absolute; its parent exists.
        context: of the volume, as `model.Volume.context` gave it.
        publish_context: as `backends.base.Publication.publish` gave it; empty where nothing attaches.
    """

    volume_id: model.VolumeId
    staging: Path
    capability: model.Capability
    context: Mapping[str, str]
    publish_context: Mapping[str, str]
    secrets: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False, compare=False)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PublishRequest:
    """What NodePublishVolume asks for.

    Attributes:
        target: absolute; its parent exists (CSI: the orchestrator makes the parent, the driver the target).
        read_only: asked for by the Pod; a reader's access mode makes the mount read-only all the same.
        staging: where the volume was staged; None where volumes are not staged.
        context: as in `StageRequest`; likewise `publish_context`.
    """

    volume_id: model.VolumeId
    target: Path
    capability: model.Capability
    read_only: bool = False
    staging: Path | None = None
    context: Mapping[str, str] = dataclasses.field(default_factory=dict)
    publish_context: Mapping[str, str] = dataclasses.field(default_factory=dict)
    secrets: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False, compare=False)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ExpandRequest:
    """What NodeExpandVolume asks for.

    Attributes:
        path: where the volume is published or staged.
        staging: where it was staged, if the orchestrator says so.
        size: what it has to show at least; the volume itself has grown already.
        capability: how it is used, if the orchestrator says so.
    """

    volume_id: model.VolumeId
    path: Path
    staging: Path | None
    size: model.SizeRange
    capability: model.Capability | None
