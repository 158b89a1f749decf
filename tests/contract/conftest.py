"""The backends that the contract suite runs over. A new backend is one more `Storage` and one more parameter here."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from provisioner import model
from provisioner.backends import base
from provisioner.backends.rbd.client import api
from tests.contract import real_rbd
from tests.fakes import directory_pools, memory_backend, mounts, rbd_backend, rbd_state
from tests.harness import ceph as ceph_harness

ceph = ceph_harness.ceph
TOTAL = 12 * model.MIB
_UNLIMITED = {"enforcement": "none"}


class NodeAndBackend(base.Backend, base.NodeBackend):
    """A backend that serves both sides."""


@dataclasses.dataclass(frozen=True)
class Storage:
    """A fresh backend, and the ways to trouble it.

    Attributes:
        again: another instance over the same storage, as another process would have it.
        use: mount the volume, or do as if.
        other: parameters of a class whose volumes are others than those of a class without them.
        parameters: what every class has to say.
    """

    backend: base.Backend
    again: base.Backend
    use: Callable[[model.VolumeId], None]
    other: dict[str, str]
    parameters: dict[str, str] = dataclasses.field(default_factory=dict, kw_only=True)

    def of_class(self, request: model.VolumeRequest) -> model.VolumeRequest:
        """The request with what every class has to say."""
        return dataclasses.replace(request, parameters={**self.parameters, **request.parameters})

    def create(self, request: model.VolumeRequest) -> model.Volume:
        """Make the volume, as a class would have it."""
        return self.backend.create(self.of_class(request))


@dataclasses.dataclass(frozen=True)
class Directories(Storage):
    """A backend whose volumes are directories of one node, and that can promise about `TOTAL` bytes.

    Attributes:
        quarantine: make the volume's record unreadable.
    """

    backend: NodeAndBackend
    again: NodeAndBackend
    quarantine: Callable[[model.VolumeId], None]


def _memory(tmp_path: Path) -> Directories:
    here = model.Topology.of({directory_pools.TOPOLOGY_KEY: directory_pools.NODE})
    backend = memory_backend.MemoryBackend(size=TOTAL, topology=here, data=tmp_path)
    return Directories(backend, backend, backend.in_use.add, _UNLIMITED, backend.quarantined.add)  # type: ignore[arg-type]


def _directory(tmp_path: Path) -> Directories:
    mounts.enter_private_namespace()
    mounts.tmpfs(tmp_path, f"size={TOTAL}")
    backend = directory_pools.directory_backend(tmp_path)
    again = directory_pools.directory_backend(tmp_path, initialise=False)

    def use(volume_id: model.VolumeId) -> None:
        target = tmp_path / "target"
        target.mkdir()
        mounts.bind(backend.locate(volume_id), target)

    def quarantine(volume_id: model.VolumeId) -> None:
        (backend.locate(volume_id).parent / "meta.json").write_text("{")

    return Directories(backend, again, use, _UNLIMITED, quarantine)  # type: ignore[arg-type]


def _rbd(tmp_path: Path) -> Storage:
    ceph = rbd_state.Ceph()
    backend = rbd_backend.rbd_backend(ceph, tmp_path)

    def use(volume_id: model.VolumeId) -> None:
        context = backend.get(volume_id).context
        ceph.watch(api.Place(context["pool"]), context["imageName"])

    again = rbd_backend.rbd_backend(ceph, tmp_path)
    return Storage(backend, again, use, {"onDelete": "purge"}, parameters=rbd_backend.CLASS)


def _ceph(tmp_path: Path, request: pytest.FixtureRequest, *, namespace: str = "") -> Storage:
    pool = real_rbd.open_pool(request, tmp_path, namespace=namespace)
    parameters = {**rbd_backend.CLASS, "radosNamespace": namespace}

    def use(volume_id: model.VolumeId) -> None:
        pool.use(volume_id, request)

    return Storage(pool.backend, pool.again, use, {"onDelete": "purge"}, parameters=parameters)


@pytest.fixture(params=["memory", "directory", "rbd", "ceph", "ceph-namespace"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    kind, _, namespace = request.param.partition("-")
    if kind == "ceph":
        return _ceph(tmp_path, request, namespace=real_rbd.NAMESPACE if namespace else "")
    makers: dict[str, Callable[[Path], Storage]] = {"memory": _memory, "directory": _directory, "rbd": _rbd}
    return makers[kind](tmp_path)


@pytest.fixture(params=[_memory, _directory], ids=["memory", "directory"])
def directories(request: pytest.FixtureRequest, tmp_path: Path) -> Directories:
    make: Callable[[Path], Directories] = request.param
    return make(tmp_path)
