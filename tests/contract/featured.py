"""The backends that offer more than to make, find and remove volumes. A new one is one more maker in `STORAGES`."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

from provisioner import model
from provisioner.backends import base
from provisioner.backends.rbd.client import api
from tests.contract import real_rbd
from tests.fakes import memory_backend, rbd_backend, rbd_state

TOTAL = 64 * model.MIB


class FeaturedBackend(base.Backend, base.Expansion, base.Snapshots, base.Publication, base.Conditions, Protocol):
    """All of the controller's side."""


@dataclasses.dataclass(frozen=True)
class Storage:
    """A fresh backend that can promise about `TOTAL` bytes, and the ways to look into its volumes.

    Attributes:
        again: another instance over the same storage, as another process would have it.
        write: puts a text into the volume.
        read: the text that was put into the volume, or its source.
        parameters: what every class has to say.
    """

    backend: FeaturedBackend
    again: FeaturedBackend
    write: Callable[[model.VolumeId, str], None]
    read: Callable[[model.VolumeId], str]
    parameters: dict[str, str] = dataclasses.field(default_factory=dict)

    def of_class(self, request: model.VolumeRequest) -> model.VolumeRequest:
        """The request with what every class has to say."""
        return dataclasses.replace(request, parameters={**self.parameters, **request.parameters})

    def create(self, request: model.VolumeRequest) -> model.Volume:
        """Make the volume, as a class would have it."""
        return self.backend.create(self.of_class(request))


def _memory(tmp_path: Path) -> Storage:
    data = tmp_path / "data"
    data.mkdir()
    backend = memory_backend.MemoryBackend(size=TOTAL, data=data, features=memory_backend.FULL)

    def write(volume_id: model.VolumeId, text: str) -> None:
        (backend.locate(volume_id) / "content").write_text(text)

    def read(volume_id: model.VolumeId) -> str:
        return (backend.locate(volume_id) / "content").read_text()

    return Storage(backend, backend, write, read)


def _rbd(tmp_path: Path) -> Storage:
    ceph = rbd_state.Ceph(room=TOTAL)
    backend = rbd_backend.rbd_backend(ceph, tmp_path)

    def image(volume_id: model.VolumeId) -> rbd_state.Image:
        context = backend.get(volume_id).context
        return ceph.image(api.Place(context["pool"]), context["imageName"])

    def write(volume_id: model.VolumeId, text: str) -> None:
        image(volume_id).content = text

    def read(volume_id: model.VolumeId) -> str:
        return image(volume_id).content

    return Storage(backend, rbd_backend.rbd_backend(ceph, tmp_path), write, read, rbd_backend.CLASS)


def ceph(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """Images of a real cluster, whose room is larger than `TOTAL`."""
    pool = real_rbd.open_pool(request, tmp_path)
    return Storage(pool.backend, pool.again, pool.write, pool.read, rbd_backend.CLASS)


STORAGES: dict[str, Callable[[Path], Storage]] = {"memory": _memory, "rbd": _rbd}
