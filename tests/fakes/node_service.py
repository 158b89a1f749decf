"""A node service that mounts nothing: it remembers what it was asked, and fails on request."""

from pathlib import Path

from provisioner import errors, model
from provisioner.node import publisher


class FakeNodeService:
    """Implements `csi.node.NodeService`.

    Attributes:
        published: what was asked for, by target path.
        failure: raised by every call while it is set.
        used: what `usage` answers.
    """

    def __init__(self, *, topology: model.Topology | None = None) -> None:
        self._topology = topology
        self.published: dict[Path, publisher.PublishRequest] = {}
        self.failure: Exception | None = None
        self.used = model.Usage(total=100, used=40, available=60)

    async def publish(self, request: publisher.PublishRequest) -> None:
        self._fail()
        self.published[request.target] = request

    async def unpublish(self, volume_id: model.VolumeId, target: Path) -> None:
        self._fail()
        self.published.pop(target, None)

    async def usage(self, volume_id: model.VolumeId, path: Path) -> model.Usage:
        self._fail()
        if path not in self.published:
            raise errors.VolumeNotFoundError(f"volume {volume_id} is not published at {path}")
        return self.used

    async def topology(self) -> model.Topology | None:
        self._fail()
        return self._topology

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure
