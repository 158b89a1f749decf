"""The parameters of a StorageClass, as one typed object."""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Literal, Self, cast, get_args

from provisioner import errors

Enforcement = Literal["none", "preferred", "required"]

_METADATA = "csi.storage.k8s.io/"
_KNOWN = ("enforcement", "pool")
_LABEL_LIMIT = 512


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What a class says about its volumes.

    Attributes:
        enforcement: whether a volume must be kept within its size; `preferred` takes a pool that cannot.
        pool: the pool to use; empty means any.
        label: "namespace/name" of the claim, for people only; empty where the watcher does not tell.
    """

    enforcement: Enforcement = "preferred"
    pool: str = ""
    label: str = ""

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> Self:
        """Read a class's parameters; keys under `csi.storage.k8s.io/` are the watcher's own and are not judged.

        Raises:
            errors.InvalidParameterError: a key is unknown, or a value is not one of those allowed.
        """
        for key in own(given):
            if key not in _KNOWN:
                raise errors.InvalidParameterError(
                    f"the StorageClass parameter {_shown(key)} is unknown", remedy=_nearest(key)
                )
        enforcement = given.get("enforcement", "preferred")
        if enforcement not in get_args(Enforcement):
            raise errors.InvalidParameterError(
                f"the StorageClass parameter enforcement is {_shown(enforcement)}",
                remedy=f"write one of {', '.join(get_args(Enforcement))}",
            )
        if enforcement == "required":
            raise errors.InvalidParameterError(
                "the StorageClass demands enforcement: required, but a pool that is a plain directory cannot keep "
                "a volume within its size",
                remedy="write enforcement: preferred, or none",
            )
        return cls(enforcement=cast("Enforcement", enforcement), pool=given.get("pool", ""), label=_label(given))


def own(given: Mapping[str, str]) -> dict[str, str]:
    """The parameters that are the class's own: those that make a volume what it is."""
    return {key: value for key, value in given.items() if not key.startswith(_METADATA)}


def _label(given: Mapping[str, str]) -> str:
    parts = (given.get(f"{_METADATA}pvc/namespace", ""), given.get(f"{_METADATA}pvc/name", ""))
    return "/".join(part for part in parts if part)[:_LABEL_LIMIT]


def _nearest(key: str) -> str:
    near = difflib.get_close_matches(key, _KNOWN, n=1)
    known = " and ".join(_KNOWN)
    return f"did you mean {near[0]}? The parameters are {known}" if near else f"the parameters are {known}"


def _shown(text: str) -> str:
    return ascii(text[:64])
