"""The options that a class may give to mkfs: those that shape a filesystem, none that names another device or file."""

import re
from collections.abc import Mapping, Sequence

from provisioner import errors

# Each takes a value.
_FLAGS: Mapping[str, frozenset[str]] = {
    "ext4": frozenset(f"-{letter}" for letter in "bCEgGiIJLmNOTU"),
    "xfs": frozenset(f"-{letter}" for letter in "bdilmnsL"),
}
_VALUE = re.compile(r"[A-Za-z0-9_.,=:^+][A-Za-z0-9_.,=:^+-]*", re.ASCII)
_ELSEWHERE = frozenset({"device", "name", "file", "logdev", "rtdev", "offset", "agskip"})


def parse(text: str, fs_type: str) -> tuple[str, ...]:
    """The words for mkfs, from a class's `mkfsOptions`: options and values, separated by blanks.

    Raises:
        errors.InvalidRequestError: a word is no option of this filesystem, or no value; which one.
    """
    words = text.split()
    known = _FLAGS[fs_type]
    result: list[str] = []
    while words:
        flag, attached = words[0][:2], words[0][2:]
        if flag not in known:
            raise _refusal(words[0], fs_type, "is no option that may be given")
        used = [flag, attached] if attached else words[:2]
        if len(used) == 1:
            raise _refusal(flag, fs_type, "lacks its value")
        _check_value(used, fs_type)
        result += used
        words = words[1 if attached else 2 :]
    return tuple(result)


def _check_value(pair: Sequence[str], fs_type: str) -> None:
    value = pair[1]
    if _VALUE.fullmatch(value) is None:
        raise _refusal(value, fs_type, f"cannot be the value of {pair[0]}")
    for part in value.split(","):
        if part.partition("=")[0] in _ELSEWHERE:
            raise _refusal(part, fs_type, "speaks of another place than the volume")


def _refusal(word: str, fs_type: str, why: str) -> errors.InvalidRequestError:
    known = " ".join(sorted(_FLAGS[fs_type]))
    return errors.InvalidRequestError(
        f"mkfsOptions: {word[:40]!a} {why}", remedy=f"for {fs_type}, write only options of {known} and their values"
    )
