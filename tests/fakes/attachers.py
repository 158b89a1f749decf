"""An attacher whose devices are only names: it opens images in the cluster in memory, as another client there."""

import itertools
from pathlib import Path

from provisioner import model
from provisioner.backends.rbd.attach import api
from provisioner.backends.rbd.client import api as client_api
from tests.fakes import rbd_state

_numbers = itertools.count(1)


class FakeAttacher:
    """Implements `attach.api.Attacher`.

    Attributes:
        name: as a class writes it.
        why_not: why this node cannot use it.
        given: the credentials of every attachment.
        racing: addresses of clients that open an image at the same moment as this one.
    """

    def __init__(self, ceph: rbd_state.Ceph, name: str = "fuse", *, why_not: str = "") -> None:
        self.name = name
        self.why_not = why_not
        self.given: list[client_api.Credentials] = []
        self.racing: list[str] = []
        self._ceph = ceph
        self._open: dict[str, str] = {}
        self._dead: set[str] = set()

    def unavailable(self) -> str:
        return self.why_not

    def attach(self, record: api.Record, credentials: client_api.Credentials, options: str) -> Path:
        if record.volume not in self._open:
            self.given.append(credentials)
            self._open[record.volume] = address = f"10.0.0.9:0/{next(_numbers)}"
            for opened in (address, *self.racing):
                self._ceph.watch(record.place, record.image, address=opened)
        return self._path(record)

    def device(self, record: api.Record) -> Path | None:
        return self._path(record) if record.volume in self._open else None

    def detach(self, record: api.Record) -> None:
        address = self._open.pop(record.volume, None)
        if address is not None and record.volume not in self._dead:
            self._ceph.leave(record.place, record.image, address=address)
        self._dead.discard(record.volume)

    def refresh(self, record: api.Record, size: int) -> None:
        """A name has no size."""

    def condition(self, record: api.Record) -> model.Condition:
        if record.volume not in self._open or record.volume in self._dead:
            return model.Condition(abnormal=True, message="its daemon has ended")
        return model.HEALTHY

    def die(self, volume: str) -> None:
        """End the daemon; the cluster goes on believing that its client is alive."""
        self._dead.add(volume)

    def address(self, volume: str) -> str:
        return self._open[volume]

    def _path(self, record: api.Record) -> Path:
        return Path("/dev", f"fake-{record.image}")
