"""Decisions without I/O: what a directory can be used for, how large it becomes, whether it is what was asked for."""

from collections.abc import Mapping, Sequence

from provisioner import errors, model
from provisioner.backends.directory import parameters, records


def refusal(capability: model.Capability, *, shared: bool) -> tuple[str, str] | None:
    """Why a directory cannot be used so, and what to write instead; None where it can.

    Args:
        shared: every node mounts the same pool.
    """
    if capability.access_type is model.AccessType.BLOCK:
        return "this driver's volumes are directories: it offers no block volumes yet", (
            "write volumeMode: Filesystem in the claim"
        )
    if capability.access_mode.spans_nodes and not shared:
        return (
            f"{capability.access_mode.kubernetes_name} cannot be kept: the volume is a directory on one node's disk",
            "write ReadWriteOnce in the claim, or ReadWriteOncePod, or use a class whose pool all nodes share",
        )
    if capability.fs_type:
        return (
            f"a volume with the filesystem {capability.fs_type[:32]!a} cannot be had: a directory has its pool's",
            "remove csi.storage.k8s.io/fstype from the StorageClass",
        )
    return None


def check_capabilities(capabilities: Sequence[model.Capability], *, shared: bool) -> None:
    """Refuse what a directory cannot keep.

    Raises:
        errors.InvalidRequestError: at least one capability cannot be had.
    """
    for capability in capabilities:
        refused = refusal(capability, shared=shared)
        if refused is not None:
            message, remedy = refused
            raise errors.InvalidRequestError(message, remedy=remedy)


def choose_size(wanted: model.SizeRange, *, default: int) -> int:
    """The exact size, in bytes, of the volume to make."""
    if wanted.required:
        return wanted.required
    return min(default, wanted.limit) if wanted.limit else default


def is_reachable_from(here: model.Topology | None, wanted: model.Accessibility) -> bool:
    """Whether a volume at `here` (None: everywhere) can be used where it must be."""
    if here is None or not wanted.requisite:
        return True
    return any(here.within(place) for place in wanted.requisite)


def difference(record: records.Record, request: model.VolumeRequest) -> str | None:
    """What of the existing volume is not as asked for; None where a repeated call may be given it.

    Mount options and the claim's metadata are no property of a directory, so they may change between calls.
    """
    if record.name != request.name:
        return f"the name: it is {record.name[:128]!a}"
    if not request.size.accepts(record.size):
        limit = f" and at most {request.size.limit}" if request.size.limit else ""
        return f"the size: it has {record.size} bytes, and at least {request.size.required}{limit} are asked for"
    wanted = records.describe_capabilities(request.capabilities)
    if record.capabilities != wanted:
        return f"the access modes: it was made for {_modes(record.capabilities)}, and {_modes(wanted)} is asked for"
    asked = parameters.own(request.parameters)
    changed = [key for key in {**record.parameters, **asked} if record.parameters.get(key) != asked.get(key)]
    if changed:
        return f"the StorageClass parameters: {', '.join(sorted(changed))}"
    return None


def objection(
    record: records.Record,
    capabilities: Sequence[model.Capability],
    given: Mapping[str, str],
    *,
    shared: bool,
) -> str | None:
    """Why the existing volume cannot be used in one of these ways; None where it can in all."""
    asked = parameters.own(given)
    if asked and asked != record.parameters:
        return "the volume was made with other StorageClass parameters"
    for capability in capabilities:
        refused = refusal(capability, shared=shared)
        if refused is not None:
            return "; ".join(refused)
    return None


def _modes(capabilities: Sequence[records.RecordedCapability]) -> str:
    return ", ".join(capability.access_mode for capability in capabilities)
