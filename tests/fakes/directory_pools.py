"""Directory backends on small pools, and the requests that fill them."""

import datetime
from collections.abc import Callable
from pathlib import Path

from provisioner import metrics, model
from provisioner.backends.directory import backend, config

TOPOLOGY_KEY = "topology.test/node"
NODE = "node-1"
RWO = model.Capability(access_mode=model.AccessMode.SINGLE_NODE_WRITER)
RWOP = model.Capability(access_mode=model.AccessMode.SINGLE_NODE_SINGLE_WRITER)
ROX = model.Capability(access_mode=model.AccessMode.MULTI_NODE_READER_ONLY)
RWX = model.Capability(access_mode=model.AccessMode.MULTI_NODE_MULTI_WRITER)


class Clock:
    """A wall clock that only moves when a test moves it."""

    def __init__(self) -> None:
        self.now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)

    def __call__(self) -> datetime.datetime:
        # Two things never happen at the same instant.
        self.now += datetime.timedelta(microseconds=1)
        return self.now

    def advance(self, **by: float) -> None:
        self.now += datetime.timedelta(**by)


def directory_backend(
    root: Path,
    *,
    names: tuple[str, ...] = ("fast",),
    node: str | None = NODE,
    clock: Callable[[], datetime.datetime] | None = None,
    steps: Callable[[str], None] = lambda _step: None,
    measured: metrics.Metrics | None = None,
    spare: int = 0,
    memory: Path | None = None,
    initialise: bool = True,
) -> backend.DirectoryBackend:
    """A backend whose pools are directories of these names below `root`."""
    made = backend.DirectoryBackend(
        config.DirectoryConfig(
            pools={name: root / name for name in names},
            topology_key=TOPOLOGY_KEY,
            node_name=node,
            spare=spare,
            memory=memory,
        ),
        measured or metrics.Metrics(),
        clock=clock or Clock(),
        steps=steps,
    )
    if initialise:
        made.initialise()
    return made


def request(
    name: str = "pvc-1",
    *,
    size: int = model.MIB,
    limit: int = 0,
    capabilities: tuple[model.Capability, ...] = (RWO,),
    parameters: dict[str, str] | None = None,
    accessibility: model.Accessibility | None = None,
    source: model.SnapshotId | model.VolumeId | None = None,
) -> model.VolumeRequest:
    """A request for a small ReadWriteOnce volume, unless told otherwise."""
    return model.VolumeRequest(
        name=name,
        size=model.SizeRange(required=size, limit=limit),
        capabilities=capabilities,
        parameters=parameters or {},
        accessibility=accessibility or model.Accessibility(),
        source=source,
    )
