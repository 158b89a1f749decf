"""The Ceph clusters that the operator wrote down: who they are, where their monitors are, and with which key.

    - clusterID: prod
      monitors: [10.0.0.1, 10.0.0.2, 10.0.0.3]
      user: kubernetes
      key: AQ...          # or keyFile: a path, relative to this file

The file may be a Secret or ConfigMap that is mounted: it is read again whenever it, or a key file, has changed, so that
a key can be rotated and a monitor moved while the driver runs. In a directory every `*.yaml` and `*.yml` is read.
"""

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from provisioner import errors
from provisioner.backends.rbd import ids
from provisioner.backends.rbd.client import api

_KNOWN = frozenset({"clusterID", "monitors", "user", "key", "keyFile"})
_PORTS = (3300, 6789)
"""Where a monitor listens that is given without a port."""
_SUFFIXES = frozenset({".yaml", ".yml"})

_Stamp = tuple[tuple[str, int, int, int], ...]


class Clusters:
    """The operator's clusters as they are now. Thread-safe.

    Args:
        path: the file, or the directory of files.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._stamp: _Stamp | None = None
        self._known: dict[str, api.Credentials] = {}
        self._watched: tuple[Path, ...] = ()

    def all(self) -> tuple[api.Credentials, ...]:
        """Every cluster, in the order of their ids.

        Raises:
            errors.BackendUnavailableError: a file cannot be read, or says something that cannot be; which, and what.
        """
        with self._lock:
            stamp = _stamp((self._path, *self._watched))
            if stamp is None or stamp != self._stamp:
                self._load()
            return tuple(self._known[key] for key in sorted(self._known))

    def get(self, cluster_id: str) -> api.Credentials | None:
        """The cluster that the operator calls so; None where there is none. Raises as `all`."""
        return next((cluster for cluster in self.all() if cluster.cluster == cluster_id), None)

    def by_digits(self, digits: str) -> api.Credentials | None:
        """The cluster that a volume's id names; None where there is none. Raises as `all`."""
        return next((cluster for cluster in self.all() if ids.cluster_digits(cluster.cluster) == digits), None)

    def _load(self) -> None:
        self._stamp = None
        files = _files(self._path)
        known: dict[str, api.Credentials] = {}
        watched: list[Path] = [*files]
        for file in files:
            for entry in _entries(file):
                cluster = _cluster(file, entry, watched)
                same = next(
                    (old for old in known if ids.cluster_digits(old) == ids.cluster_digits(cluster.cluster)), None
                )
                if same is not None:
                    raise _fault(
                        file, f"clusterID {cluster.cluster!a} and {same!a} cannot be told apart in a volume's id"
                    )
                known[cluster.cluster] = cluster
        self._watched = tuple(watched)
        self._known = known
        self._stamp = _stamp((self._path, *watched))


def _stamp(paths: tuple[Path, ...]) -> _Stamp | None:
    """What changes when one of the files does; None where one cannot be looked at."""
    try:
        found = [(str(path), path.stat()) for path in paths]
    except OSError:
        return None
    return tuple((name, stat.st_mtime_ns, stat.st_ino, stat.st_size) for name, stat in found)


def _files(path: Path) -> list[Path]:
    try:
        if not path.is_dir():
            return [path]
        return sorted(entry for entry in path.iterdir() if entry.suffix in _SUFFIXES and entry.is_file())
    except OSError as error:
        raise _fault(path, f"it cannot be read: {error.strerror}") from error


def _entries(file: Path) -> Iterator[Mapping[str, object]]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise _fault(file, f"it cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise _fault(file, "it is no UTF-8 text") from None
    except yaml.MarkedYAMLError as error:
        # The parser quotes the line that it fails at, and a key may be in it.
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise _fault(file, f"it is no YAML{line}") from None
    except yaml.YAMLError:
        raise _fault(file, "it is no YAML") from None
    if not isinstance(content, list):
        raise _fault(file, "it is not a list of clusters")
    for number, entry in enumerate(content, 1):
        if not isinstance(entry, dict):
            raise _fault(file, f"entry {number} is not a mapping")
        yield entry


def _cluster(file: Path, entry: Mapping[str, object], watched: list[Path]) -> api.Credentials:
    cluster_id = entry.get("clusterID")
    if not isinstance(cluster_id, str) or not cluster_id:
        raise _fault(file, "an entry has no clusterID, which is a text")
    where = f"clusterID {cluster_id[:64]!a}"
    unknown = sorted(str(key) for key in entry if key not in _KNOWN)
    if unknown:
        raise _fault(file, f"{where} has the unknown key {unknown[0][:32]!a}; the keys are {', '.join(sorted(_KNOWN))}")
    monitors = entry.get("monitors")
    if not isinstance(monitors, list) or not monitors or not all(isinstance(each, str) and each for each in monitors):
        raise _fault(file, f"{where} has no monitors, which is a list of addresses")
    addresses = [address for each in monitors for address in _addresses(each)]
    if len(set(addresses)) < len(addresses):
        # Ceph's own library ends the process over it.
        raise _fault(file, f"{where} has one monitor's address twice")
    user = entry.get("user")
    if not isinstance(user, str) or not user:
        raise _fault(file, f"{where} has no user, which is a text")
    return api.Credentials(
        cluster=cluster_id,
        monitors=tuple(monitors),
        user=user.removeprefix("client."),
        key=_key(file, where, entry, watched),
    )


def _addresses(monitor: str) -> Iterator[str]:
    """Every host and port that `host`, `host:port` or `[v2:host:port,v1:host:port]` stands for."""
    if monitor.startswith("[v"):
        for part in monitor.strip("[]").split(","):
            yield part.partition(":")[2].partition("/")[0]
    elif ":" in monitor.rpartition("]")[2]:
        yield monitor
    else:
        yield from (f"{monitor}:{port}" for port in _PORTS)


def _key(file: Path, where: str, entry: Mapping[str, object], watched: list[Path]) -> str:
    if ("key" in entry) == ("keyFile" in entry):
        raise _fault(file, f"{where} must have either key or keyFile")
    given = entry.get("key", entry.get("keyFile"))
    if not isinstance(given, str) or not given.strip():
        raise _fault(file, f"{where} has an empty {'key' if 'key' in entry else 'keyFile'}")
    if "key" in entry:
        return given.strip()
    path = file.parent / given
    try:
        key = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise _fault(file, f"{where} has the keyFile {path}, which cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise _fault(file, f"{where} has the keyFile {path}, which holds no key") from None
    if not key:
        raise _fault(file, f"{where} has the keyFile {path}, which is empty")
    watched.append(path)
    return key


def _fault(file: Path, what: str) -> errors.BackendUnavailableError:
    return errors.BackendUnavailableError(
        f"the Ceph clusters are not known: {file}: {what}",
        remedy="correct the file; it is read again by the next call",
    )
