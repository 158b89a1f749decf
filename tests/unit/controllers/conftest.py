"""A watcher at work between a fake API server and a fake driver, and what happens around it."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest

from provisioner import metrics as metrics_module
from provisioner.controllers import names, options
from provisioner.controllers import watcher as watcher_module
from provisioner.kube import client, objects
from tests.fakes import apiserver, clock, csi_client
from tests.unit.controllers import build

Json = apiserver.Json

QUICK = options.Options(
    retry_min=0.01, retry_max=0.05, head_start=0.0, csi_timeout=0.05, assign_step=0.05, drain_timeout=1.0
)


@dataclasses.dataclass
class Cluster:
    """The fakes, and the watcher between them."""

    api: apiserver.FakeApiServer
    csi: csi_client.FakeClient
    kube: client.Client
    metrics: metrics_module.Metrics = dataclasses.field(default_factory=metrics_module.Metrics)
    tasks: list[asyncio.Task[None]] = dataclasses.field(default_factory=list)
    watcher: watcher_module.Watcher | None = None

    async def start(self, time: clock.FakeClock | None = None, **changes: Any) -> None:
        """Have a watcher at work, with these settings besides the quick ones."""
        self.watcher = watcher_module.Watcher(
            self.kube, self.csi, dataclasses.replace(QUICK, **changes), self.metrics, time=time
        )
        self.tasks.append(asyncio.create_task(self.watcher.run()))
        started = asyncio.create_task(self.watcher.started.wait())
        await asyncio.wait([started, self.tasks[-1]], return_when=asyncio.FIRST_COMPLETED, timeout=5)
        if self.tasks[-1].done():
            await self.tasks[-1]
        assert started.done()

    async def stop(self) -> None:
        """End the watchers in the ordinary way."""
        for task in self.tasks:
            task.cancel()
        for task in self.tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self.tasks.clear()

    async def kill(self) -> None:
        """End the watcher in the middle of whatever it does: nothing it has in hand is finished."""
        assert self.watcher is not None
        self.watcher._settings = dataclasses.replace(self.watcher._settings, drain_timeout=0.0)
        await self.stop()

    def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Have something happen in the cluster meanwhile."""

        async def running() -> None:
            await work()

        self.tasks.append(asyncio.create_task(running()))

    async def until(self, condition: Callable[[], Any], timeout: float = 5.0) -> None:
        """Wait for something to come about."""
        await self.api.wait_for(condition, timeout)

    # What is in the cluster.

    def add_class(self, name: str = "fast", **fields: Any) -> None:
        self.api.create(objects.CLASSES, {"metadata": {"name": name}, "provisioner": build.DRIVER, **fields})

    def add_claim(self, name: str = "data", *, class_name: str = "fast", size: str = "1Gi", **fields: Any) -> Json:
        spec = fields.pop("spec", {})
        return self.api.create(
            objects.CLAIMS,
            {
                "metadata": {"name": name, "namespace": "app", **fields},
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "storageClassName": class_name,
                    "volumeMode": "Filesystem",
                    "resources": {"requests": {"storage": size}},
                    **spec,
                },
            },
        )

    def add_node(self, name: str, *, registered: bool = True) -> None:
        self.api.create(objects.NODES, {"metadata": {"name": name, "labels": {build.WHERE: name}}})
        drivers = [{"name": build.DRIVER, "nodeID": name, "topologyKeys": [build.WHERE]}] if registered else []
        self.api.create(objects.CSI_NODES, {"metadata": {"name": name}, "spec": {"drivers": drivers}})

    def claim(self, name: str = "data") -> Json:
        found = self.api.get(objects.CLAIMS, name, "app")
        assert found is not None
        return found

    def volume_of(self, name: str = "data") -> Json:
        found = self.api.get(objects.VOLUMES, f"pvc-{self.claim(name)['metadata']['uid']}")
        assert found is not None
        return found

    def volumes(self) -> Sequence[Json]:
        """The PersistentVolumes, markers left out."""
        return [one for one in self.api.list(objects.VOLUMES) if not _is_marker(one)]

    def markers(self) -> Sequence[Json]:
        return [one for one in self.api.list(objects.VOLUMES) if _is_marker(one)]

    def phase(self, name: str = "data") -> str:
        return str(self.claim(name)["status"]["phase"])

    def events(self, reason: str = "", type_: str = "") -> Sequence[Json]:
        return [
            event
            for event in self.api.list(objects.EVENTS)
            if reason in {"", event["reason"]} and type_ in {"", event.get("type", "Normal")}
        ]

    def pending(self, reason: str) -> float:
        return self.metrics.registry.get_sample_value("provisioner_pending_claims", {"reason": reason}) or 0.0

    def counted(self, metric: str, /, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(metric, labels) or 0.0

    # What others do in it.

    async def answer_pulses(self) -> None:
        """Do as the binder's volume worker does with a volume that no claim has by uid: mark it Available."""
        while True:
            await self.until(lambda: any(one["status"]["phase"] == "Pending" for one in self.markers()), timeout=60)
            for one in self.markers():
                self.api.patch(
                    objects.VOLUMES, one["metadata"]["name"], {"status": {"phase": "Available"}}, subresource="status"
                )

    def select_node(self, node: str, name: str = "data") -> None:
        """Do as the scheduler does."""
        self.api.patch(
            objects.CLAIMS, name, {"metadata": {"annotations": {names.SELECTED_NODE: node}}}, namespace="app"
        )

    def ask(self, name: str = "data") -> None:
        """Do as the binder does when it finds no volume for a claim."""
        self.api.patch(objects.CLAIMS, name, {"metadata": {"annotations": build.asked()}}, namespace="app")


def _is_marker(volume: Json) -> bool:
    return names.PULSE_LABEL in volume["metadata"].get("labels", {})


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    """With one class, `fast`."""
    async with apiserver.FakeApiServer() as api:
        kube = client.Client(api.source(), timeout=5.0)
        made = Cluster(api, csi_client.FakeClient(name=build.DRIVER), kube)
        made.add_class()
        try:
            yield made
        finally:
            made.csi.gate.set()
            await made.stop()
            await kube.close()
