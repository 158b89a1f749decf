"""What replaces what in a cache: the newer version, whoever brings it, in whatever order."""

import hypothesis
from hypothesis import strategies

from provisioner.kube import objects, store

Nodes = store.Store[objects.Node]


def _node(name: str, version: int) -> objects.Node:
    return objects.Node(metadata=objects.ObjectMeta(name=name, resource_version=str(version)))


def _state(subject: Nodes) -> dict[str, str]:
    return {node.metadata.name: node.metadata.resource_version for node in subject.values()}


def test_an_older_version_replaces_nothing() -> None:
    subject = Nodes()
    subject.put(_node("a", 10))
    subject.put(_node("a", 9))
    assert _state(subject) == {"a": "10"}


def test_versions_are_compared_as_numbers() -> None:
    subject = Nodes()
    subject.put(_node("a", 9))
    subject.put(_node("a", 10))
    assert _state(subject) == {"a": "10"}


def test_the_same_version_is_told_once() -> None:
    subject, told = Nodes(), list[objects.Node | None]()
    subject.subscribe(lambda _, new: told.append(new))
    subject.put(_node("a", 1))
    subject.put(_node("a", 1))
    assert len(told) == 1


def test_a_deletion_older_than_the_object_that_was_made_anew_is_no_news() -> None:
    subject = Nodes()
    subject.observe(_node("a", 20))
    subject.remove(_node("a", 15))
    assert _state(subject) == {"a": "20"}


def test_what_was_written_after_a_list_outlives_it() -> None:
    subject = Nodes()
    subject.put(_node("listed", 1))
    subject.put(_node("gone", 2))
    subject.observe(_node("ours", 160))
    subject.relist({"listed"}, at=150)
    assert _state(subject) == {"listed": "1", "ours": "160"}


def test_what_was_written_before_a_list_that_does_not_have_it_is_gone() -> None:
    subject = Nodes()
    subject.observe(_node("ours", 140))
    subject.relist(set(), at=150)
    assert _state(subject) == {}


def test_an_index_of_several_values_finds_an_object_by_each() -> None:
    subject = Nodes()
    subject.put(_node("a", 1))
    subject.add_index("letters", lambda node: [node.metadata.name, node.metadata.resource_version])
    subject.put(_node("a", 2))
    found = {value: len(subject.by_index("letters", value)) for value in ("a", "1", "2")}
    assert found == {"a": 1, "1": 0, "2": 1}


@hypothesis.given(
    news=strategies.lists(strategies.tuples(strategies.sampled_from("ab"), strategies.booleans()), max_size=20),
    data=strategies.data(),
)
def test_our_own_writes_may_be_put_in_at_any_time_without_harm(
    news: list[tuple[str, bool]], data: strategies.DataObject
) -> None:
    """The watch tells everything in order; each object it tells may also have been observed, earlier or later."""
    subject, truth = Nodes(), dict[str, str]()
    told = [(_node(name, version), deleted) for version, (name, deleted) in enumerate(news, start=1)]
    written = [node for node, deleted in told if not deleted]
    for node, deleted in told:
        for observed in data.draw(strategies.lists(strategies.sampled_from(written), max_size=3)) if written else []:
            # Nobody can see the answer of a write that comes after the deletion which the watch tells next.
            if int(observed.metadata.resource_version) <= int(node.metadata.resource_version):
                subject.observe(observed)
        if deleted:
            subject.remove(node)
            truth.pop(node.metadata.name, None)
        else:
            subject.put(node)
            truth[node.metadata.name] = node.metadata.resource_version
        subject.progress = int(node.metadata.resource_version)
    assert _state(subject) == truth
