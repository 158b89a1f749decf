"""Where a new volume must be reachable: the CSI TopologyRequirement of a claim.

A segment is what a driver's node says of its place: the topology keys it registered (CSINode) with the values of the
Node's labels. Equal inputs give equal requirements, in the same order, so that a retry asks for the same volume.
"""

import itertools
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence

from provisioner import errors, model
from provisioner.controllers import outcomes
from provisioner.kube import objects

_STATEFUL = re.compile(r"(?:.*-)?([^-]+)-([0-9]{1,9})", re.ASCII)


def keys_of(csi_node: objects.CsiNode, driver: str) -> Sequence[str] | None:
    """The topology keys under which `driver` is registered on a node; None where it is not."""
    for entry in csi_node.spec.drivers or ():
        if entry.name == driver:
            return entry.topology_keys or ()
    return None


def segment(keys: Iterable[str], labels: Mapping[str, str]) -> model.Topology | None:
    """The place of a node with these labels; None where it lacks one (the kubelet has not set it yet)."""
    try:
        return model.Topology.of({key: labels[key] for key in keys})
    except KeyError:
        return None


def allowed(terms: Sequence[objects.TopologySelectorTerm]) -> tuple[model.Topology, ...]:
    """The places that a StorageClass's `allowedTopologies` name, one for each combination of values."""
    places = set()
    for term in terms:
        keys = [expression.key for expression in term.match_label_expressions]
        for values in itertools.product(*(expression.values for expression in term.match_label_expressions)):
            places.add(model.Topology.of(dict(zip(keys, values, strict=True))))
    return _sorted(places)


def at_node(
    place: model.Topology, limits: Sequence[model.Topology], everywhere: Iterable[model.Topology], *, strict: bool
) -> model.Accessibility:
    """The requirement of a claim whose node was selected.

    Args:
        place: the selected node's segment.
        limits: the class's allowed places; empty means any.
        everywhere: the segments of all nodes; only looked at when not strict.
        strict: the volume must be made for the selected node.

    Raises:
        errors.InvalidRequestError: the class does not allow the selected node's place.
    """
    if limits and not any(place.within(limit) for limit in limits):
        raise errors.InvalidRequestError(
            f"the selected node stands in {_text(place)}, which the StorageClass's allowedTopologies leave out",
            remedy="let the Pod run elsewhere, or allow the place in the class",
        )
    if strict:
        return model.Accessibility(requisite=(place,), preferred=(place,))
    requisite = _sorted(limits or {place, *everywhere})
    first = next(index for index, other in enumerate(requisite) if place.within(other))
    return model.Accessibility(requisite=requisite, preferred=_rotated(requisite, first))


def anywhere(
    claim_name: str, limits: Sequence[model.Topology], everywhere: Iterable[model.Topology]
) -> model.Accessibility:
    """The requirement of a claim that no node was selected for.

    The volumes of one StatefulSet are spread: the replicas of a set prefer one place after the other.

    Raises:
        outcomes.NotReadyError: no place is known.
    """
    requisite = _sorted(limits or everywhere)
    if not requisite:
        raise outcomes.NotReadyError("the driver is registered on no node, so there is no place for a volume yet")
    return model.Accessibility(requisite=requisite, preferred=_rotated(requisite, _turn(claim_name) % len(requisite)))


def _turn(claim_name: str) -> int:
    """A number that differs by one between neighbours in a StatefulSet (`<claim>-<set>-<ordinal>`)."""
    match = _STATEFUL.fullmatch(claim_name)
    if match is None:
        return zlib.crc32(claim_name.encode())
    return zlib.crc32(match[1].encode()) + int(match[2])


def _rotated(places: tuple[model.Topology, ...], first: int) -> tuple[model.Topology, ...]:
    return places[first:] + places[:first]


def _sorted(places: Iterable[model.Topology]) -> tuple[model.Topology, ...]:
    return tuple(sorted(set(places), key=lambda place: place.segments))


def _text(place: model.Topology) -> str:
    return ", ".join(f"{key}={value}" for key, value in place.segments)
