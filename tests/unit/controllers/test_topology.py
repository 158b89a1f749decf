"""Where a volume must be reachable."""

import hypothesis
import pytest
from hypothesis import strategies

from provisioner import errors, model
from provisioner.controllers import outcomes, topology
from tests.unit.controllers import build

_A, _B, _C = build.place("a"), build.place("b"), build.place("c")

_places = strategies.lists(strategies.sampled_from("abcdefgh").map(build.place), min_size=1, unique=True)
_names = strategies.from_regex(r"\A[a-z][a-z-]{0,10}\Z")


def test_a_driver_that_is_registered_on_a_node_has_topology_keys_there() -> None:
    assert topology.keys_of(build.csi_node("n", "k1", "k2"), build.DRIVER) == ("k1", "k2")
    assert topology.keys_of(build.csi_node("n", "k1", registered="other.example"), build.DRIVER) is None


def test_a_segment_takes_its_values_from_the_nodes_labels() -> None:
    assert model.Topology.of({"zone": "z", "rack": "r"}) == topology.segment(
        ["zone", "rack"], {"zone": "z", "rack": "r", "other": "x"}
    )


def test_a_node_that_lacks_a_label_stands_nowhere_yet() -> None:
    assert topology.segment(["zone", "rack"], {"zone": "z"}) is None


def test_allowed_topologies_are_every_combination_of_their_values_once() -> None:
    terms = [build.term(zone=("z1", "z2"), rack=("r",)), build.term(zone=("z1",), rack=("r",))]
    assert (
        model.Topology.of({"zone": "z1", "rack": "r"}),
        model.Topology.of({"zone": "z2", "rack": "r"}),
    ) == topology.allowed(terms)


def test_strict_topology_asks_for_the_selected_nodes_place_and_no_other() -> None:
    assert model.Accessibility((_B,), (_B,)) == topology.at_node(_B, (), [_A, _B, _C], strict=True)


@pytest.mark.parametrize("strict", [True, False])
def test_a_selected_node_that_the_class_does_not_allow_is_refused(*, strict: bool) -> None:
    with pytest.raises(errors.InvalidRequestError, match="allowedTopologies leave out"):
        topology.at_node(_B, (_A, _C), [_A, _B, _C], strict=strict)


@hypothesis.given(places=_places, data=strategies.data())
def test_without_strictness_every_place_will_do_and_the_selected_one_is_preferred(
    places: list[model.Topology], data: strategies.DataObject
) -> None:
    selected = data.draw(strategies.sampled_from(places))
    asked = topology.at_node(selected, (), places, strict=False)
    assert selected == asked.preferred[0]
    assert set(places) == set(asked.requisite) == set(asked.preferred)
    assert len(asked.requisite) == len(asked.preferred) == len(places)


def test_without_strictness_the_class_still_limits_the_places() -> None:
    assert model.Accessibility((_A, _C), (_C, _A)) == topology.at_node(_C, (_A, _C), [_A, _B, _C], strict=False)


@hypothesis.given(places=_places, name=_names, order=strategies.randoms(use_true_random=False))
def test_the_requirement_does_not_depend_on_the_order_in_which_the_nodes_are_known(
    places: list[model.Topology], name: str, order: strategies.DrawFn
) -> None:
    shuffled = list(places)
    order.shuffle(shuffled)  # type: ignore[attr-defined]  # a random.Random
    assert topology.anywhere(name, (), places) == topology.anywhere(name, (), shuffled)


@hypothesis.given(places=_places, claim=_names, replica_set=strategies.from_regex(r"\A[a-z]{1,8}\Z"))
def test_the_volumes_of_a_statefulset_are_spread_over_all_places_before_one_gets_a_second(
    places: list[model.Topology], claim: str, replica_set: str
) -> None:
    first = [
        topology.anywhere(f"{claim}-{replica_set}-{ordinal}", (), places).preferred[0] for ordinal in range(len(places))
    ]
    assert set(places) == set(first)


def test_the_claims_of_one_replica_prefer_the_same_place() -> None:
    places = [_A, _B, _C]
    assert topology.anywhere("www-web-1", (), places) == topology.anywhere("logs-web-1", (), places)


def test_allowed_topologies_come_before_what_the_nodes_say() -> None:
    assert {_A} == set(topology.anywhere("data", (_A,), [_B, _C]).requisite)


def test_where_the_driver_is_registered_nowhere_a_claim_has_to_wait() -> None:
    with pytest.raises(outcomes.NotReadyError, match="registered on no node"):
        topology.anywhere("data", (), [])
