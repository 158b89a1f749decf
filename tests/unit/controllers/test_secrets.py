"""Secret templates of a StorageClass, and what they must never allow."""

import re

import hypothesis
import pytest
from hypothesis import strategies

from provisioner import errors
from provisioner.controllers import names, secrets

_P = names.PARAMETER_PREFIX
_WORDS = secrets.ClaimWords("pvc-1", "data", "app", {"team": "blue", "odd": "no valid name"})


def _pair(kind: str, name: str, namespace: str) -> dict[str, str]:
    return {f"{_P}{kind}-name": name, f"{_P}{kind}-namespace": namespace}


def test_a_class_without_secrets_needs_none() -> None:
    assert secrets.references({"pool": "a"}, _WORDS) == {}


def test_the_plain_secret_serves_every_kind_of_call() -> None:
    found = secrets.references(_pair("secret", "s", "storage"), _WORDS)
    assert dict.fromkeys(secrets.KINDS, secrets.Reference("s", "storage")) == found


def test_a_secret_of_its_own_wins_over_the_plain_one() -> None:
    found = secrets.references(_pair("secret", "s", "storage") | _pair("node-publish-secret", "p", "app"), _WORDS)
    assert secrets.Reference("p", "app") == found["node-publish-secret"]
    assert secrets.Reference("s", "storage") == found["provisioner-secret"]


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("${pv.name}", "pvc-1"),
        ("${pvc.name}", "data"),
        ("${pvc.namespace}-x", "app-x"),
        ("${pvc.annotations['team']}.${pvc.name}", "blue.data"),
    ],
)
def test_a_name_may_be_built_from_the_claim(template: str, name: str) -> None:
    found = secrets.references(_pair("provisioner-secret", template, "storage"), _WORDS)
    assert name == found["provisioner-secret"].name


@pytest.mark.parametrize(("template", "namespace"), [("${pvc.namespace}", "app"), ("of-${pv.name}", "of-pvc-1")])
def test_a_namespace_may_be_the_claims_own_or_follow_the_volume(template: str, namespace: str) -> None:
    found = secrets.references(_pair("provisioner-secret", "s", template), _WORDS)
    assert namespace == found["provisioner-secret"].namespace


@pytest.mark.parametrize("template", ["${pvc.name}", "${pvc.annotations['team']}", "x-${pvc.name}"])
def test_a_claim_can_never_choose_the_namespace(template: str) -> None:
    with pytest.raises(errors.InvalidParameterError, match="stands for nothing here"):
        secrets.references(_pair("provisioner-secret", "s", template), _WORDS)


@pytest.mark.parametrize(
    "template", ["${pvc.uid}", "${}", "${pvc.annotations['none']}", "$pvc.name", "a$", "${pv.name"]
)
def test_an_unknown_token_is_an_error_that_names_the_known_ones(template: str) -> None:
    with pytest.raises(errors.InvalidParameterError, match=re.escape("${pvc.annotations['<key>']}")):
        secrets.references(_pair("provisioner-secret", template, "storage"), _WORDS)


@pytest.mark.parametrize("name", ["Upper", "a_b", "-a", "a.", "a" * 254, "${pvc.annotations['odd']}"])
def test_a_name_that_no_secret_can_have_is_an_error(name: str) -> None:
    with pytest.raises(errors.InvalidParameterError, match="no valid DNS name"):
        secrets.references(_pair("provisioner-secret", name, "storage"), _WORDS)


@pytest.mark.parametrize("namespace", ["a.b", "a" * 64, "A"])
def test_a_namespace_that_cannot_be_is_an_error(namespace: str) -> None:
    with pytest.raises(errors.InvalidParameterError, match="no valid DNS name"):
        secrets.references(_pair("provisioner-secret", "s", namespace), _WORDS)


@pytest.mark.parametrize("half", ["name", "namespace"])
def test_half_a_pair_is_an_error(half: str) -> None:
    with pytest.raises(errors.InvalidParameterError, match="give both or neither"):
        secrets.references({f"{_P}provisioner-secret-{half}": "x"}, _WORDS)


@hypothesis.given(
    value=strategies.text(max_size=20),
    template=strategies.sampled_from(["${pvc.annotations['k']}", "x${pvc.annotations['k']}y"]),
)
def test_whatever_an_annotation_holds_it_is_a_dns_name_or_refused_and_never_expanded_again(
    value: str, template: str
) -> None:
    words = secrets.ClaimWords("pvc-1", "data", "app", {"k": value})
    try:
        found = secrets.references(_pair("provisioner-secret", template, "storage"), words)
    except errors.InvalidParameterError:
        return
    assert template.replace("${pvc.annotations['k']}", value) == found["provisioner-secret"].name
    assert re.fullmatch(r"[a-z0-9.-]+", found["provisioner-secret"].name, re.ASCII)
