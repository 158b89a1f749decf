"""The process that is killed: works on a pool of a real Ceph cluster, and dies by SIGKILL at its n-th step.

Run as `python -m tests.chaos.rbd_worker CLUSTERS INSTANCE STEPS WORK...`; STEPS is 0 for one that lives. A step is the
end of a call to Ceph, and whatever the backend says besides. The works: `create NAME SIZE [SOURCE]`, `delete ID`,
`expand ID SIZE`, `snapshot ID NAME`, `delete-snapshot ID`, and `burst PREFIX COUNT`, which creates so many volumes
from eight threads, and waits for those that another process makes.
"""

import sys
import time
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any

from provisioner import errors, metrics, model
from provisioner.backends.rbd import backend, config
from provisioner.backends.rbd.client import api, connections, librbd
from tests.chaos import dying
from tests.fakes.directory_pools import RWO


class Stepping:
    """A cluster, or the images of a place, each of whose calls that may change something is a step when it ends."""

    def __init__(self, inner: Any, steps: Callable[[str], None]) -> None:
        self._inner = inner
        self._steps = steps

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name == "images":
            return lambda place: Stepping(found(place), self._steps)
        if not callable(found) or name in {"pool_id", "pool_name", "stats", "pools", "namespaces"}:
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            given = [each._inner if isinstance(each, Stepping) else each for each in arguments]
            answer = found(*given, **named)
            self._steps(name)
            return answer

        return call


def request(name: str, size: int, source: str = "") -> model.VolumeRequest:
    """A volume of pool `kube`."""
    of: model.VolumeId | model.SnapshotId | None = None
    if source:
        of = model.SnapshotId(source) if source.startswith("s1.") else model.VolumeId(source)
    return model.VolumeRequest(
        name=name,
        size=model.SizeRange(required=size),
        capabilities=(RWO,),
        parameters={"pool": "kube"},
        source=of,
    )


def open_backend(clusters: Path, instance: str, steps: Callable[[str], None] | None = None) -> backend.RbdBackend:
    """The backend of a process; with `steps` it is told of each."""
    cached = connections.Connections(librbd.LibradosCluster)

    def connect(given: api.Credentials) -> api.Cluster:
        cluster: Any = cached.get(given)
        return cluster if steps is None else Stepping(cluster, steps)

    settings = config.RbdConfig(clusters=clusters, instance=instance)
    return backend.RbdBackend(settings, connect, metrics.Metrics(), steps=steps or (lambda _step: None))


def burst(made: backend.RbdBackend, prefix: str, count: int) -> None:
    """Create so many volumes; what another process makes is waited for."""

    def create(number: int) -> None:
        while True:
            try:
                made.create(request(f"{prefix}-{number}", model.MIB))
            except errors.OperationPendingError:
                time.sleep(0.05)
            else:
                return

    print("ready", flush=True)
    sys.stdin.readline()
    with futures.ThreadPoolExecutor(8) as threads:
        list(threads.map(create, range(count)))


def main(clusters: str, instance: str, steps: str, work: str, *words: str) -> None:
    killing = int(steps)
    made = open_backend(Path(clusters), instance, dying.Killer(killing) if work != "burst" else None)
    if work == "create":
        made.create(request(words[0], int(words[1]), *words[2:]))
    elif work == "delete":
        made.delete(model.VolumeId(words[0]))
    elif work == "expand":
        made.expand(model.VolumeId(words[0]), model.SizeRange(int(words[1])))
    elif work == "snapshot":
        made.create_snapshot(model.SnapshotRequest(name=words[1], source=model.VolumeId(words[0])))
    elif work == "delete-snapshot":
        made.delete_snapshot(model.SnapshotId(words[0]))
    elif work == "burst":
        burst(made, words[0], int(words[1]))
    else:
        raise ValueError(work)


if __name__ == "__main__":
    main(*sys.argv[1:])
