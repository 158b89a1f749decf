"""A node service that mounts nothing: it remembers what it was asked, and fails on request."""

from pathlib import Path

from provisioner import errors, model
from provisioner.node import requests


class FakeNodeService:
    """Implements `csi.node.NodeService`.

    Attributes:
        staged: what was asked for, by staging path.
        published: what was asked for, by target path.
        expanded: what was asked for, in this order.
        failure: raised by every call while it is set.
        used: what `usage` answers.
        unusable: raised by `usage` while it is set.
        state: what `condition` answers.
    """

    def __init__(self, *, topology: model.Topology | None = None) -> None:
        self._topology = topology
        self.staged: dict[Path, requests.StageRequest] = {}
        self.published: dict[Path, requests.PublishRequest] = {}
        self.expanded: list[requests.ExpandRequest] = []
        self.failure: Exception | None = None
        self.used = model.Usage(total=100, used=40, available=60)
        self.unusable: Exception | None = None
        self.state = model.HEALTHY

    async def stage(self, request: requests.StageRequest) -> None:
        self._fail()
        self.staged[request.staging] = request

    async def unstage(self, volume_id: model.VolumeId, staging: Path) -> None:
        self._fail()
        self.staged.pop(staging, None)

    async def publish(self, request: requests.PublishRequest) -> None:
        self._fail()
        self.published[request.target] = request

    async def unpublish(self, volume_id: model.VolumeId, target: Path) -> None:
        self._fail()
        self.published.pop(target, None)

    async def expand(self, request: requests.ExpandRequest) -> int:
        self._fail()
        self.expanded.append(request)
        return request.size.required

    async def usage(self, volume_id: model.VolumeId, path: Path) -> model.Usage:
        self._fail()
        if self.unusable is not None:
            raise self.unusable
        if path not in self.published:
            raise errors.VolumeNotFoundError(f"volume {volume_id} is not published at {path}")
        return self.used

    async def condition(self, volume_id: model.VolumeId, path: Path) -> model.Condition:
        self._fail()
        return self.state

    async def topology(self) -> model.Topology | None:
        self._fail()
        return self._topology

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure
