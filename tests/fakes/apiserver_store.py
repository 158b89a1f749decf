"""The state of the fake API server: objects, the history that watches read, and the rules of the real registry.

Objects are plain JSON; one that is stored is never changed in place, so that history and snapshots may share it.
"""

import copy
import dataclasses
import datetime
import itertools
import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from provisioner.kube import objects
from tests.fakes import apiserver_patch

Json = dict[str, Any]
AnyKind = objects.Kind[Any]
Matcher = Callable[[Json], bool]

KINDS: tuple[AnyKind, ...] = (
    objects.CLAIMS,
    objects.VOLUMES,
    objects.CLASSES,
    objects.NODES,
    objects.CSI_NODES,
    objects.ATTACHMENTS,
    objects.SECRETS,
    objects.EVENTS,
)

# Where status is a subresource of its own, with the phase that the registry gives a new object.
_STATUS: dict[str, Json] = {
    objects.CLAIMS.plural: {"phase": "Pending"},
    objects.VOLUMES.plural: {"phase": "Pending"},
    objects.ATTACHMENTS.plural: {},
    objects.NODES.plural: {},
}

# What the registry does not let anybody change, once it has a value.
_IMMUTABLE: dict[str, tuple[str, ...]] = {
    objects.CLAIMS.plural: ("volumeName", "storageClassName", "accessModes", "volumeMode", "selector", "dataSource"),
    objects.VOLUMES.plural: ("csi", "volumeMode"),
}
_IMMUTABLE_CLASS = ("provisioner", "parameters", "reclaimPolicy", "volumeBindingMode")


class RefusalError(Exception):
    """The server says no."""

    def __init__(self, status: int, reason: str, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.field = field

    def body(self) -> Json:
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "details": {"causes": [{"field": self.field, "message": self.message}]} if self.field else {},
            "code": self.status,
        }


@dataclasses.dataclass(frozen=True)
class Change:
    """One entry of the history: `old` and `new` are the object before and after."""

    version: int
    plural: str
    old: Json | None
    new: Json | None

    def event(self, matches: Matcher) -> tuple[str, Json] | None:
        """How a watch with this selection sees it."""
        before = self.old is not None and matches(self.old)
        after = self.new is not None and matches(self.new)
        if after:
            assert self.new is not None
            return ("MODIFIED" if before else "ADDED"), self.new
        if before:
            gone = copy.deepcopy(self.new if self.new is not None else self.old)
            assert gone is not None
            gone["metadata"]["resourceVersion"] = str(self.version)
            return "DELETED", gone
        return None


@dataclasses.dataclass
class Store:
    """All objects of the cluster. `changed` is called after each change."""

    changed: Callable[[], None] = lambda: None
    version: int = 100
    compacted: int = 0
    history: list[Change] = dataclasses.field(default_factory=list)
    _objects: dict[str, dict[str, Json]] = dataclasses.field(default_factory=dict)
    _snapshots: dict[str, tuple[int, list[Json]]] = dataclasses.field(default_factory=dict)
    _numbers: Iterator[int] = dataclasses.field(default_factory=itertools.count)

    def list(self, kind: AnyKind, matches: Matcher, limit: int, continue_: str) -> tuple[int, list[Json], str]:
        """The version, one page, and the token of the next; consistent from the first page on."""
        if continue_:
            version, items = self._snapshots.pop(continue_, (0, []))
            if version <= self.compacted:
                raise RefusalError(410, "Expired", "The provided continue parameter is too old")
        else:
            version, items = self.version, [obj for _, obj in sorted(self._all(kind).items()) if matches(obj)]
        if not limit or len(items) <= limit:
            return version, items, ""
        token = f"page-{next(self._numbers)}"
        self._snapshots[token] = (version, items[limit:])
        return version, items[:limit], token

    def get(self, kind: AnyKind, namespace: str, name: str) -> Json:
        found = self._all(kind).get(_key(namespace, name))
        if found is None:
            raise RefusalError(404, "NotFound", f'{kind.plural} "{name}" not found')
        return found

    def create(self, kind: AnyKind, namespace: str, obj: Json) -> Json:
        new = copy.deepcopy(obj)
        meta = new.setdefault("metadata", {})
        if not meta.get("name"):
            if not meta.get("generateName"):
                raise RefusalError(422, "Invalid", f'{kind.name} "" is invalid: metadata.name: Required value')
            meta["name"] = f"{meta['generateName']}{next(self._numbers):05d}"
        if kind.namespaced:
            if not namespace or meta.setdefault("namespace", namespace) != namespace:
                raise RefusalError(400, "BadRequest", "the namespace of the object does not match the request")
        elif meta.get("namespace"):
            raise RefusalError(400, "BadRequest", f"{kind.plural} have no namespace")
        if _key(namespace, meta["name"]) in self._all(kind):
            raise RefusalError(409, "AlreadyExists", f'{kind.plural} "{meta["name"]}" already exists')
        meta["uid"] = str(uuid.UUID(int=next(self._numbers)))
        meta["creationTimestamp"] = _now()
        new.update(apiVersion=kind.api_version, kind=kind.name)
        if kind.plural in _STATUS:
            new["status"] = dict(_STATUS[kind.plural])
        return self._save(kind, None, new)

    def patch(self, kind: AnyKind, namespace: str, name: str, subresource: str, patch: Any) -> Json:
        old = self.get(kind, namespace, name)
        new = _patched(old, patch)
        _check_identity(kind, old, new)
        if kind.plural in _STATUS:
            kept = "spec" if subresource else "status"
            new.pop(kept, None)
            if kept in old:
                new[kept] = old[kept]
        elif subresource:
            raise RefusalError(404, "NotFound", "the server could not find the requested resource")
        _check_immutable(kind, old, new)
        if new == old:
            return old
        if new["metadata"].get("deletionTimestamp") and not new["metadata"].get("finalizers"):
            return self._save(kind, new, None)
        return self._save(kind, old, new)

    def delete(self, kind: AnyKind, namespace: str, name: str, preconditions: Json) -> Json:
        old = self.get(kind, namespace, name)
        for field in ("uid", "resourceVersion"):
            if preconditions.get(field) not in (None, old["metadata"][field]):
                raise RefusalError(
                    409,
                    "Conflict",
                    f'Operation cannot be fulfilled on {kind.plural} "{name}": Precondition failed: {field} in '
                    f"precondition: {preconditions[field]}, {field} in object meta: {old['metadata'][field]}",
                )
        if not old["metadata"].get("finalizers"):
            return self._save(kind, old, None)
        if old["metadata"].get("deletionTimestamp"):
            return old
        new = copy.deepcopy(old)
        new["metadata"].update(deletionTimestamp=_now(), deletionGracePeriodSeconds=0)
        return self._save(kind, old, new)

    def since(self, version: int, plural: str) -> Iterable[Change]:
        """The changes after the version."""
        for change in self.history[self._place(version) :]:
            if change.plural == plural:
                yield change

    def compact(self) -> None:
        """Forget the history: what is older than now can be neither watched nor paged."""
        self.compacted = self.version
        self.history.clear()

    def _place(self, version: int) -> int:
        at = len(self.history)
        while at and self.history[at - 1].version > version:
            at -= 1
        return at

    def _all(self, kind: AnyKind) -> dict[str, Json]:
        return self._objects.setdefault(kind.plural, {})

    def _save(self, kind: AnyKind, old: Json | None, new: Json | None) -> Json:
        self.version += 1
        obj = new if new is not None else old
        assert obj is not None
        key = _key(obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
        if new is None:
            del self._all(kind)[key]
        else:
            new["metadata"] = {**new["metadata"], "resourceVersion": str(self.version)}
            self._all(kind)[key] = new
        self.history.append(Change(self.version, kind.plural, old, new))
        self.changed()
        return obj


def _patched(old: Json, patch: Any) -> Json:
    try:
        if isinstance(patch, list):
            result: Json = apiserver_patch.json_patch(old, patch)
        else:
            result = apiserver_patch.merge(old, patch)
    except apiserver_patch.PatchError as error:
        # The real server says no more either, be it a failed test or a path that is not there.
        why = "the server rejected our request due to an error in our request"
        raise RefusalError(422, "Invalid", why) from error
    return result


def _check_identity(kind: AnyKind, old: Json, new: Json) -> None:
    name = old["metadata"]["name"]
    if new["metadata"].get("resourceVersion") != old["metadata"]["resourceVersion"]:
        raise RefusalError(
            409,
            "Conflict",
            f'Operation cannot be fulfilled on {kind.plural} "{name}": the object has been modified; please apply your '
            "changes to the latest version and try again",
        )
    for field in ("uid", "name", "namespace", "creationTimestamp", "deletionTimestamp"):
        if new["metadata"].get(field) != old["metadata"].get(field):
            raise RefusalError(
                422,
                "Invalid",
                f'{kind.name} "{name}" is invalid: metadata.{field}: Invalid value: "{new["metadata"].get(field)}": '
                "field is immutable",
                field=f"metadata.{field}",
            )
    if old["metadata"].get("deletionTimestamp"):
        added = set(new["metadata"].get("finalizers", ())) - set(old["metadata"].get("finalizers", ()))
        if added:
            raise RefusalError(
                422,
                "Invalid",
                f'{kind.name} "{name}" is invalid: metadata.finalizers: Forbidden: no new finalizers can be added if '
                f"the object is being deleted, found new finalizers {sorted(added)}",
            )


def _check_immutable(kind: AnyKind, old: Json, new: Json) -> None:
    before, after = (obj if kind is objects.CLASSES else obj.get("spec", {}) for obj in (old, new))
    fields = _IMMUTABLE_CLASS if kind is objects.CLASSES else _IMMUTABLE.get(kind.plural, ())
    for field in fields:
        if before.get(field) and after.get(field) != before[field]:
            raise RefusalError(
                422,
                "Invalid",
                f'{kind.name} "{old["metadata"]["name"]}" is invalid: spec: Forbidden: {field} is immutable',
            )


_REQUIREMENT = re.compile(r"\s*(!?)([\w./-]+)\s*(?:(==|=|!=)\s*([\w.-]*)|(in|notin)\s*\(([^)]*)\))?\s*(?:,|$)")


def selector(labels: str, fields: str) -> Matcher:
    """The selection of a list or a watch."""
    tests = [*_label_tests(labels), *_field_tests(fields)]
    return lambda obj: all(test(obj) for test in tests)


def _label_tests(text: str) -> Iterator[Matcher]:
    at = 0
    while at < len(text):
        match = _REQUIREMENT.match(text, at)
        if match is None:
            raise RefusalError(400, "BadRequest", f"unable to parse requirement: {text}")
        yield _label_test(match)
        at = match.end()


def _label_test(match: re.Match[str]) -> Matcher:
    negated, name, operator, value, set_operator, values = match.groups()
    wanted = {value} if operator else {one.strip() for one in (values or "").split(",")}
    if operator is None and set_operator is None:
        return lambda obj: (name in _labels(obj)) is not bool(negated)
    inside = operator in {"=", "=="} or set_operator == "in"
    return lambda obj: (_labels(obj).get(name) in wanted) is inside


def _field_tests(text: str) -> Iterator[Matcher]:
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        if name not in {"metadata.name", "metadata.namespace"}:
            raise RefusalError(400, "BadRequest", f"field label not supported: {name}")
        yield _field_test(name.removeprefix("metadata."), value.lstrip("="))


def _field_test(field: str, wanted: str) -> Matcher:
    return lambda obj: obj["metadata"].get(field) == wanted


def _labels(obj: Json) -> Json:
    labels: Json = obj["metadata"].get("labels") or {}
    return labels


def _key(namespace: str, name: str) -> str:
    return f"{namespace}/{name}" if namespace else name


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
