"""A fake API server, a client of it, and time that a test moves."""

from collections.abc import AsyncIterator, Callable

import pytest

from provisioner import metrics
from provisioner.kube import client, objects
from tests.fakes import apiserver, clock


@pytest.fixture
async def api() -> AsyncIterator[apiserver.FakeApiServer]:
    async with apiserver.FakeApiServer() as server:
        yield server


class Pauses:
    """Stands in for sleeping: notes how long it was to be, and does not."""

    def __init__(self) -> None:
        self.taken: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
def registry() -> metrics.Metrics:
    return metrics.Metrics()


@pytest.fixture
async def kube(api: apiserver.FakeApiServer, pauses: Pauses, registry: metrics.Metrics) -> AsyncIterator[client.Client]:
    """Its pauses take no time; its jitter is at its largest."""
    made = client.Client(api.source(), metrics=registry, timeout=5.0, chance=lambda: 1.0, sleep=pauses)
    yield made
    await made.close()


@pytest.fixture
def time() -> clock.FakeClock:
    return clock.FakeClock()


MakeClaim = Callable[..., apiserver.Json]


@pytest.fixture
def make_claim(api: apiserver.FakeApiServer) -> MakeClaim:
    """Puts a claim onto the server."""

    def make(name: str = "data", namespace: str = "default", **meta: object) -> apiserver.Json:
        return api.create(
            objects.CLAIMS,
            {
                "metadata": {"name": name, "namespace": namespace, **meta},
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": "1Gi"}},
                    "storageClassName": "standard",
                },
            },
        )

    return make
