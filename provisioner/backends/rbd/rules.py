"""Decisions without I/O: what an image can be used for, how large it becomes, whether it is what was asked for."""

from collections.abc import Mapping, Sequence

from provisioner import errors, model
from provisioner.backends.rbd import context, parameters, record
from provisioner.backends.rbd.client import api

GRAIN = model.MIB
"""Sizes are rounded up to this many bytes."""

LARGEST = 1 << 60
"""No image can be larger, on any cluster."""

_FILESYSTEMS = frozenset({"", "ext4", "xfs"})
_READ_ONLY = frozenset({model.AccessMode.SINGLE_NODE_READER_ONLY, model.AccessMode.MULTI_NODE_READER_ONLY})


def refusal(capability: model.Capability) -> tuple[str, str] | None:
    """Why an image cannot be used so, and what to write instead; None where it can."""
    mode = capability.access_mode
    if mode.spans_nodes and mode not in _READ_ONLY and capability.access_type is model.AccessType.MOUNT:
        return (
            f"{mode.kubernetes_name} with a filesystem cannot be had: two nodes that write would destroy it",
            "write ReadWriteOnce in the claim, or volumeMode: Block for a program that shares a raw device",
        )
    if capability.fs_type not in _FILESYSTEMS:
        return (
            f"a volume with the filesystem {capability.fs_type[:32]!a} cannot be had",
            "write ext4 or xfs as csi.storage.k8s.io/fstype of the StorageClass",
        )
    return None


def check_capabilities(capabilities: Sequence[model.Capability], *, has_source: bool) -> None:
    """Refuse what an image cannot keep.

    Raises:
        errors.InvalidRequestError: at least one capability cannot be had, or nobody could ever write to the volume.
    """
    for capability in capabilities:
        refused = refusal(capability)
        if refused is not None:
            message, remedy = refused
            raise errors.InvalidRequestError(message, remedy=remedy)
    if not has_source and capabilities and all(each.access_mode in _READ_ONLY for each in capabilities):
        raise errors.InvalidRequestError(
            "ReadOnlyMany for an empty volume cannot be had: nobody could ever write to it",
            remedy="name a snapshot or a claim as the claim's dataSource, or write ReadWriteOnce",
        )


def choose_size(wanted: model.SizeRange, *, default: int, least: int = 0) -> int:
    """The size, in bytes, of the volume to make: whole mebibytes.

    Args:
        least: of the volume's source.

    Raises:
        errors.SizeOutOfRangeError: no such size is within what is asked for.
    """
    given = wanted.required
    if not given:
        given = default if not wanted.limit else min(default, wanted.limit // GRAIN * GRAIN)
    size = -(-max(given, least, 1) // GRAIN) * GRAIN
    if wanted.limit and size > wanted.limit:
        why = f"its source has {least}" if least and size == least else "sizes are whole mebibytes"
        raise errors.SizeOutOfRangeError(
            f"the volume would have {size} bytes, as {why}, and at most {wanted.limit} are asked for",
            remedy="raise the limit",
        )
    if size > LARGEST:
        raise errors.SizeOutOfRangeError(f"{size} bytes are more than any image can have", remedy="ask for less")
    return size


def difference(found: record.Record, size: int, request: model.VolumeRequest) -> str | None:
    """What of the existing volume is not as asked for; None where a repeated call may be given it.

    Mount options and the claim's metadata are no property of an image, so they may change between calls.
    """
    if found.name != request.name:
        return f"the name: it is {found.name[:128]!a}"
    if not request.size.accepts(size):
        limit = f" and at most {request.size.limit}" if request.size.limit else ""
        return f"the size: it has {size} bytes, and at least {request.size.required}{limit} are asked for"
    wanted = record.describe(request.capabilities)
    if found.capabilities != wanted:
        return (
            f"the access modes: it was made for {', '.join(found.capabilities)}, and {', '.join(wanted)} is asked for"
        )
    if found.source != record.source_text(request.source):
        return f"the source: it was made from {found.source or 'nothing'}"
    changed = _changed(found.parameters, parameters.own(request.parameters))
    return f"the StorageClass parameters: {', '.join(changed)}" if changed else None


def objection(found: record.Record, capabilities: Sequence[model.Capability], given: Mapping[str, str]) -> str | None:
    """Why the existing volume cannot be used in one of these ways; None where it can in all."""
    asked = parameters.own(given)
    if asked and _changed(found.parameters, asked):
        return "the volume was made with other StorageClass parameters"
    for capability in capabilities:
        refused = refusal(capability)
        if refused is not None:
            return "; ".join(refused)
    return None


def is_shared(capability: model.Capability) -> bool:
    """Whether several nodes may have the volume at once, for writing."""
    return capability.access_mode.spans_nodes and capability.access_mode not in _READ_ONLY


def node_context(found: record.Record, cluster: str, place: api.Place, image: str) -> dict[str, str]:
    """What the node is told of the volume."""
    parsed = parameters.Parameters.parse(found.parameters)
    return context.Context(
        cluster=cluster,
        pool=place.pool,
        namespace=place.namespace,
        image=image,
        mounter=parsed.mounter,
        map_options=parsed.map_options,
        mkfs_options=parsed.mkfs_options,
    ).encode()


def _changed(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    return sorted(key for key in {**before, **after} if before.get(key) != after.get(key))
