"""The objects of one kind as they were last heard of, and the rules by which news replaces them.

Everything is decided by `resourceVersion`, compared as a number: Kubernetes promises since 1.35 that this is allowed
within a kind, and etcd has always made it so. `progress` is the version up to which the watch has told everything;
what is not newer than that is no news, whoever brings it. So the result of one's own write can be put in at once,
before the watch brings it, and can neither undo later news nor bring back what has been deleted since.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

import structlog

from provisioner.kube import objects, sharing

_log = structlog.get_logger(__name__)

T = TypeVar("T", bound=objects.Object)

Subscriber = Callable[[T | None, T | None], None]
IndexFunction = Callable[[T], Iterable[str]]


def version(resource_version: str) -> int:
    """A resource version as the number that it is."""
    return int(resource_version)


class _Index(Generic[T]):
    def __init__(self, values_of: IndexFunction[T]) -> None:
        self._values_of = values_of
        self._keys: dict[str, dict[str, None]] = {}

    def keys(self, value: str) -> Iterable[str]:
        return self._keys.get(value, ())

    def replace(self, key: str, old: T | None, new: T | None) -> None:
        for value in self._values_of(old) if old is not None else ():
            keys = self._keys.get(value, {})
            keys.pop(key, None)
            if not keys:
                self._keys.pop(value, None)
        for value in self._values_of(new) if new is not None else ():
            self._keys.setdefault(value, {})[key] = None


class Store(Generic[T]):
    """The objects by key, their indexes, and those who want to hear of each change."""

    def __init__(self) -> None:
        self.progress = 0
        self._objects: dict[str, T] = {}
        self._indexes: dict[str, _Index[T]] = {}
        self._subscribers: list[Subscriber[T]] = []
        self._pool = sharing.Pool()

    def __len__(self) -> int:
        return len(self._objects)

    def get(self, key: str) -> T | None:
        """The object, or nothing."""
        return self._objects.get(key)

    def values(self) -> Sequence[T]:
        """All objects, a snapshot."""
        return list(self._objects.values())

    def subscribe(self, subscriber: Subscriber[T]) -> None:
        """Call `subscriber(old, new)` for each change from now on, after the objects that are there already."""
        self._subscribers.append(subscriber)
        for obj in self.values():
            self._tell(subscriber, None, obj)

    def add_index(self, name: str, values_of: IndexFunction[T]) -> None:
        """Keep the objects findable by the values that `values_of(object)` yields."""
        index = self._indexes[name] = _Index(values_of)
        for key, obj in self._objects.items():
            index.replace(key, None, obj)

    def by_index(self, name: str, value: str) -> Sequence[T]:
        """The objects for which the index yields this value."""
        return [self._objects[key] for key in self._indexes[name].keys(value)]

    def observe(self, obj: T) -> None:
        """Put in what a write of our own answered, unless the watch is already further."""
        if version(obj.metadata.resource_version) > self.progress:
            self.put(obj)

    def put(self, obj: T) -> None:
        """Put in the object, unless the one that is there is as new or newer."""
        key = obj.metadata.key
        old = self._objects.get(key)
        if old is None or _version(old) < _version(obj):
            self._pool.share(obj)
            self._replace(key, old, obj)

    def remove(self, obj: T) -> None:
        """Take out the object, last seen as `obj`; one that was made anew since stays."""
        key = obj.metadata.key
        old = self._objects.get(key)
        if old is not None and _version(old) <= _version(obj):
            self._replace(key, old, None)

    def relist(self, listed: set[str], at: int) -> None:
        """Take out what a complete list at version `at` does not have, unless it is newer than the list."""
        gone = [(key, obj) for key, obj in self._objects.items() if key not in listed and _version(obj) <= at]
        for key, obj in gone:
            self._replace(key, obj, None)
        self.progress = at

    def clear_versions_after(self, at: int) -> None:
        """Forget all that is newer than `at`: the server's own history does not reach that far (etcd was restored)."""
        for key, obj in list(self._objects.items()):
            if _version(obj) > at:
                self._replace(key, obj, None)
        self.progress = at

    def _replace(self, key: str, old: T | None, new: T | None) -> None:
        if new is None:
            del self._objects[key]
        else:
            self._objects[key] = new
        for index in self._indexes.values():
            index.replace(key, old, new)
        for subscriber in self._subscribers:
            self._tell(subscriber, old, new)

    def _tell(self, subscriber: Subscriber[T], old: T | None, new: T | None) -> None:
        try:
            subscriber(old, new)
        except Exception:  # noqa: BLE001 - one subscriber must not keep news from the others
            known = new or old
            _log.exception("a subscriber failed", object=known.metadata.key if known else "")


def _version(obj: objects.Object) -> int:
    return version(obj.metadata.resource_version)
