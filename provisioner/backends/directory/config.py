"""The settings of the directory backend."""

import dataclasses
import datetime
from collections.abc import Mapping
from pathlib import Path

from provisioner import model


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryConfig:
    """Where the pools are and how they are filled.

    Attributes:
        pools: name to root directory; the name is what a class's parameter `pool` says.
        topology_key: of the segment that a node's volumes are reachable from.
        node_name: the node whose own disks these are; None where every node mounts the same storage at these paths.
        spare: bytes of each pool that are never promised.
        default_size: bytes of a volume whose claim asks for no size.
        memory: a directory outside of the pools, in which the node remembers which pools it had; None: nowhere.
        trash_retention: how long a deleted volume is kept.
    """

    pools: Mapping[str, Path]
    topology_key: str
    node_name: str | None = None
    spare: int = 0
    default_size: int = model.GIB
    memory: Path | None = None
    trash_retention: datetime.timedelta = datetime.timedelta(days=1)
