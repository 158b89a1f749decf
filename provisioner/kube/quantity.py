"""Kubernetes quantities ("1Gi", "1500M", "1e9") to bytes and back.

The grammar is that of `resource.Quantity`: a signed decimal number, then a binary suffix (Ki … Ei), a decimal one
(n, u, m, none, k, M … E) or an exponent (e3, E3).
"""

import decimal
import re
from collections.abc import Mapping

from provisioner.kube import errors

_NUMBER = re.compile(
    r"([+-]?(?:\d{1,40}(?:\.\d{0,40})?|\.\d{1,40}))([KMGTPE]i|[numkMGTPE]|[eE][+-]?\d{1,2})?", re.ASCII
)

_BINARY: Mapping[str, int] = {f"{letter}i": 1024**power for power, letter in enumerate("KMGTPE", start=1)}
_DECIMAL: Mapping[str, int] = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}

# Wide enough for 40 digits on each side of the point times 2**60, so that nothing is rounded on the way.
_EXACT = decimal.Context(prec=140)

_LARGEST = 2**63 - 1  # the API server clamps quantities to int64, and a CSI size is one


def parse(text: str) -> int:
    """The quantity in bytes, rounded up as Kubernetes does (`Quantity.Value`). It may be negative.

    Raises:
        errors.QuantityError: the text is no quantity, or it does not fit into 63 bits.
    """
    match = _NUMBER.fullmatch(text)
    if match is None:
        shown = ascii(text[:40]) + ("…" if len(text) > 40 else "")  # noqa: PLR2004 - only for the message
        raise errors.QuantityError(f"quantity {shown} is malformed", remedy='write it like "10Gi" or "500M"')
    number, suffix = match[1], match[2] or ""
    exact = _EXACT.multiply(decimal.Decimal(number), _factor(suffix))
    size = int(exact.to_integral_value(decimal.ROUND_UP, _EXACT))
    if abs(size) > _LARGEST:
        raise errors.QuantityError(f"quantity {text!r} is out of range", remedy="the largest is 2^63-1 bytes")
    return size


def _factor(suffix: str) -> decimal.Decimal:
    if suffix in _BINARY:
        return decimal.Decimal(_BINARY[suffix])
    exponent = _DECIMAL[suffix] if suffix in _DECIMAL else int(suffix[1:])
    return decimal.Decimal(1).scaleb(exponent, _EXACT)


def format(size: int) -> str:  # noqa: A001 - read as `quantity.format`
    """The canonical text for a number of bytes: the largest binary suffix that keeps it whole ("1Gi", "1073741825")."""
    for suffix, factor in reversed(list(_BINARY.items())):
        if size and size % factor == 0:
            return f"{size // factor}{suffix}"
    return str(size)
