"""The two patch formats of the fake API server: JSON merge patch (RFC 7386) and JSON patch (RFC 6902)."""

import copy
from typing import Any


class PatchError(Exception):
    """The patch cannot be applied: a `test` failed, or a path is not there."""


def merge(target: Any, patch: Any) -> Any:
    """The target with the merge patch applied; the target itself is left alone."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge(result.get(name), value)
    return result


def json_patch(target: Any, operations: list[dict[str, Any]]) -> Any:
    """The target with the operations `add`, `replace`, `remove` and `test` applied one after the other."""
    result = {"": copy.deepcopy(target)}
    for operation in operations:
        _apply(result, operation)
    return result[""]


def _apply(document: dict[str, Any], operation: dict[str, Any]) -> None:
    *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")]
    place: Any = document
    for part in parents:
        place = _member(place, part, operation["path"])
    match operation["op"]:
        case "test":
            found = _member(place, last, operation["path"])
            if found != operation["value"]:
                raise PatchError(f"testing value {operation['path']} failed")
        case "remove":
            _member(place, last, operation["path"])
            del place[int(last) if isinstance(place, list) else last]
        case "replace":
            _member(place, last, operation["path"])
            place[int(last) if isinstance(place, list) else last] = copy.deepcopy(operation["value"])
        case "add":
            _add(place, last, operation)
        case other:
            raise PatchError(f"unexpected kind: {other}")


def _add(place: Any, last: str, operation: dict[str, Any]) -> None:
    if isinstance(place, list):
        place.insert(len(place) if last == "-" else int(last), copy.deepcopy(operation["value"]))
    else:
        place[last] = copy.deepcopy(operation["value"])


def _member(place: Any, part: str, path: str) -> Any:
    try:
        return place[int(part) if isinstance(place, list) else part]
    except (KeyError, IndexError, ValueError, TypeError):
        raise PatchError(f"doc is missing path: {path}: missing value") from None
