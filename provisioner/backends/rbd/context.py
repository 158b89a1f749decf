"""What the controller tells the node of a volume: the keys of `model.Volume.context`, made and read in one place.

A context ends up in the PersistentVolume, which many may read: it says which cluster by the operator's name for it,
never by an address, a user or a key. The node looks these up in its own clusters file.
"""

import dataclasses
from collections.abc import Mapping
from typing import Literal, Self, cast, get_args

from provisioner import errors

Mounter = Literal["auto", "krbd", "nbd", "fuse"]

_CLUSTER = "clusterID"
_POOL = "pool"
_NAMESPACE = "radosNamespace"
_IMAGE = "imageName"
_MOUNTER = "mounter"
_MAP = "mapOptions"
_MKFS = "mkfsOptions"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Where a volume's image is, and how a node is to use it.

    Attributes:
        cluster: the `clusterID` of the operator's clusters file.
        namespace: the RADOS namespace; empty for the pool's default one.
        mounter: what attaches the image; `auto` leaves it to the node.
        map_options: for the attacher, as the class writes them: comma-separated.
        mkfs_options: for mkfs, as the class writes them: separated by spaces.
    """

    cluster: str
    pool: str
    namespace: str = ""
    image: str
    mounter: Mounter = "auto"
    map_options: str = ""
    mkfs_options: str = ""

    def encode(self) -> dict[str, str]:
        """The context as CSI carries it; what is empty is left out."""
        pairs = {
            _CLUSTER: self.cluster,
            _POOL: self.pool,
            _NAMESPACE: self.namespace,
            _IMAGE: self.image,
            _MOUNTER: self.mounter,
            _MAP: self.map_options,
            _MKFS: self.mkfs_options,
        }
        return {key: value for key, value in pairs.items() if value}

    @classmethod
    def decode(cls, given: Mapping[str, str]) -> Self:
        """Read a context; keys that others added (the watcher's identity, the kubelet's Pod) are not judged.

        Raises:
            errors.InvalidRequestError: it does not say which image, or names a mounter that there is not.
        """
        missing = [key for key in (_CLUSTER, _POOL, _IMAGE) if not given.get(key)]
        if missing:
            raise errors.InvalidRequestError(
                f"the volume context lacks {' and '.join(missing)}",
                remedy="write spec.csi.volumeAttributes of the PersistentVolume as the driver does",
            )
        mounter = given.get(_MOUNTER, "auto")
        if mounter not in get_args(Mounter):
            raise errors.InvalidRequestError(
                f"the volume context's mounter is {mounter[:32]!a}",
                remedy=f"write one of {', '.join(get_args(Mounter))}",
            )
        return cls(
            cluster=given[_CLUSTER],
            pool=given[_POOL],
            namespace=given.get(_NAMESPACE, ""),
            image=given[_IMAGE],
            mounter=cast("Mounter", mounter),
            map_options=given.get(_MAP, ""),
            mkfs_options=given.get(_MKFS, ""),
        )
