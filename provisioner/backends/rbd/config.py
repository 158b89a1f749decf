"""The settings of the RBD backend."""

import dataclasses
import datetime
import re
from pathlib import Path

from provisioner import errors, model

_INSTANCE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,14}[A-Za-z0-9])?", re.ASCII)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RbdConfig:
    """Where the clusters are and how their pools are used.

    Attributes:
        clusters: the operator's file of clusters, or a directory of such files.
        instance: the name of this Kubernetes cluster; every image's name begins with it, so that several Kubernetes
            clusters can share a pool.
        default_size: bytes of a volume whose claim asks for no size.
        trash_retention: how long a deleted volume is kept where its class does not say.
        depth_limit: images between a volume and its last ancestor from which on it is flattened in the background.
        snapshot_limit: snapshots that one image may have; krbd maps no image with more than 510.
    """

    clusters: Path
    instance: str = "k8s"
    default_size: int = model.GIB
    trash_retention: datetime.timedelta = datetime.timedelta(days=1)
    depth_limit: int = 4
    snapshot_limit: int = 450

    def __post_init__(self) -> None:
        """Refuse an instance that cannot begin an image's name.

        Raises:
            errors.InvalidRequestError: the instance has other characters than those of a name, or too many.
        """
        if _INSTANCE.fullmatch(self.instance) is None:
            raise errors.InvalidRequestError(
                f"the instance {self.instance[:32]!a} cannot begin the name of an image",
                remedy="write 1 to 16 letters, digits, '-' and '_', beginning and ending with a letter or digit",
            )
