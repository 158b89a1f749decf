"""Which Secrets a volume's calls need: the `csi.storage.k8s.io/*-secret-*` pairs of a StorageClass, expanded.

Names may be built from what a claim says of itself; namespaces may not, beyond the claim's own: otherwise whoever can
write a claim could have the driver use any Secret of the cluster.
"""

import dataclasses
import re
from collections.abc import Mapping

from provisioner import errors
from provisioner.controllers import names

_TOKEN = re.compile(r"\$\{([^}]*)\}|\$")
_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
_SUBDOMAIN = re.compile(rf"{_LABEL.pattern}(?:\.{_LABEL.pattern})*", re.ASCII)
_MAX_NAME = 253

KINDS = (
    "provisioner-secret",
    "controller-publish-secret",
    "node-stage-secret",
    "node-publish-secret",
    "controller-expand-secret",
    "node-expand-secret",
    "controller-modify-secret",
)
_DEFAULT = "secret"
KEYS = frozenset(
    f"{names.PARAMETER_PREFIX}{kind}-{part}" for kind in (_DEFAULT, *KINDS) for part in ("name", "namespace")
)


@dataclasses.dataclass(frozen=True, slots=True)
class Reference:
    """Where a Secret is."""

    name: str
    namespace: str


@dataclasses.dataclass(frozen=True, slots=True)
class ClaimWords:
    """What the templates may speak of."""

    pv_name: str
    claim_name: str
    namespace: str
    annotations: Mapping[str, str]


def references(parameters: Mapping[str, str], words: ClaimWords) -> dict[str, Reference]:
    """The Secret of each kind of call that has one, by its word in `KINDS`.

    Raises:
        errors.InvalidParameterError: half a pair, an unknown token, or a result that no Secret can be called.
    """
    found = {}
    for kind in KINDS:
        reference = _reference(parameters, kind, words) or _reference(parameters, _DEFAULT, words)
        if reference is not None:
            found[kind] = reference
    return found


def _reference(parameters: Mapping[str, str], kind: str, words: ClaimWords) -> Reference | None:
    name_key = f"{names.PARAMETER_PREFIX}{kind}-name"
    namespace_key = f"{names.PARAMETER_PREFIX}{kind}-namespace"
    name, namespace = parameters.get(name_key, ""), parameters.get(namespace_key, "")
    if not name and not namespace:
        return None
    if not name or not namespace:
        raise errors.InvalidParameterError(
            f"the StorageClass gives only one of {name_key} and {namespace_key}", remedy="give both or neither"
        )
    for_namespace = {"pv.name": words.pv_name, "pvc.namespace": words.namespace}
    for_name = for_namespace | {"pvc.name": words.claim_name}
    for_name |= {f"pvc.annotations['{key}']": value for key, value in words.annotations.items()}
    return Reference(
        name=_checked(_expand(name, for_name, name_key), _SUBDOMAIN, _MAX_NAME, name_key),
        namespace=_checked(_expand(namespace, for_namespace, namespace_key), _LABEL, _MAX_NAME, namespace_key),
    )


def _expand(template: str, tokens: Mapping[str, str], key: str) -> str:
    def value(match: re.Match[str]) -> str:
        token = match[1]
        if token not in tokens:
            # Annotations are the claim's own affair, and there may be many: they are offered as a form.
            offered = [f"${{{name}}}" for name in tokens if not name.startswith("pvc.annotations[")]
            if "pvc.name" in tokens:
                offered.append("${pvc.annotations['<key>']} of an annotation that the claim has")
            raise errors.InvalidParameterError(
                f"StorageClass parameter {key}: {match[0]} stands for nothing here",
                remedy="use " + ", ".join(offered),
            )
        return tokens[token]

    return _TOKEN.sub(value, template)


def _checked(text: str, form: re.Pattern[str], longest: int, key: str) -> str:
    if len(text) > longest or form.fullmatch(text) is None:
        raise errors.InvalidParameterError(
            f"StorageClass parameter {key} becomes {text[:80]!a}, which is no valid DNS name"
        )
    return text
