"""What a StorageClass says to us and what it says to the driver.

Keys that begin with `csi.storage.k8s.io/` are ours: they are taken out, and one that nobody knows is refused, since a
misspelt secret or filesystem must not be ignored in silence.
"""

import dataclasses
import difflib
from collections.abc import Mapping

from provisioner import errors
from provisioner.controllers import names, secrets

FS_TYPE = f"{names.PARAMETER_PREFIX}fstype"

_OURS = secrets.KEYS | {FS_TYPE}


@dataclasses.dataclass(frozen=True, slots=True)
class Parameters:
    """The two parts.

    Attributes:
        driver: what the driver gets to see.
        fs_type: the filesystem asked for, or empty.
    """

    driver: Mapping[str, str]
    fs_type: str


def split(parameters: Mapping[str, str]) -> Parameters:
    """Take our keys out of a class's parameters.

    Raises:
        errors.InvalidParameterError: a key with our prefix that means nothing.
    """
    driver = {}
    for key, value in parameters.items():
        if not key.startswith(names.PARAMETER_PREFIX):
            driver[key] = value
        elif key not in _OURS:
            near = difflib.get_close_matches(key, _OURS, n=1)
            raise errors.InvalidParameterError(
                f"StorageClass parameter {key} is unknown", remedy=f"did you mean {near[0]}?" if near else "remove it"
            )
    return Parameters(driver, parameters.get(FS_TYPE, ""))


def metadata(*, claim_name: str, namespace: str, pv_name: str) -> Mapping[str, str]:
    """The parameters that tell the driver for whom a volume is (`--extra-create-metadata`)."""
    return {
        f"{names.PARAMETER_PREFIX}pvc/name": claim_name,
        f"{names.PARAMETER_PREFIX}pvc/namespace": namespace,
        f"{names.PARAMETER_PREFIX}pv/name": pv_name,
    }
