"""Makes claims and watches what becomes of them: the load of the benchmarks, as an ordinary client of the cluster.

Every time is taken where a user would see it, in one watch: a claim exists when its first event has come, is bound when
the first event that says so has, and is gone with its last; the same for its volume.
"""

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from provisioner.kube import cache, client, config, objects

CREATORS = 4
"""As many requests at once as an eager deployment tool would have under way."""


@dataclasses.dataclass(slots=True)
class Life:
    """The moments of one claim, on the monotonic clock."""

    sent: float = 0.0
    made: float = 0.0
    bound: float = 0.0
    lost: float = 0.0
    gone: float = 0.0
    volume_gone: float = 0.0


class Load:
    """The claims of one benchmark; an `open_load` makes it."""

    def __init__(self, kube: client.Client, *, namespace: str, class_name: str, creators: int = CREATORS) -> None:
        self.kube = kube
        self.lives: dict[str, Life] = {}
        self.warnings: list[objects.Event] = []
        self._namespace = namespace
        self._class_name = class_name
        self._creators = creators
        self._changed = asyncio.Event()
        self._claims = cache.Cache(kube, objects.CLAIMS, namespace=namespace)
        self._volumes = cache.Cache(kube, objects.VOLUMES)
        self._events = cache.Cache(kube, objects.EVENTS, namespace=namespace)

    async def create(self, name: str, size: str = "1Mi") -> None:
        """Make one claim."""
        self.lives[name] = Life(sent=time.monotonic())
        await self.kube.create(
            objects.CLAIMS,
            {
                "metadata": {"name": name},
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "storageClassName": self._class_name,
                    "resources": {"requests": {"storage": size}},
                },
            },
            self._namespace,
        )

    async def create_many(self, count: int, prefix: str = "claim") -> None:
        """Make so many claims as fast as the API server takes them."""
        slots = asyncio.Semaphore(self._creators)

        async def one(number: int) -> None:
            async with slots:
                await self.create(f"{prefix}-{number:05}")

        await asyncio.gather(*(one(number) for number in range(count)))

    async def create_slowly(self, count: int, per_second: float, prefix: str = "slow") -> None:
        """Make so many claims at an even pace."""
        begun = time.monotonic()
        for number in range(count):
            await asyncio.sleep(max(0.0, begun + number / per_second - time.monotonic()))
            await self.create(f"{prefix}-{number:05}")

    async def delete_all(self) -> None:
        """Delete every claim that is there."""
        slots = asyncio.Semaphore(self._creators)

        async def one(name: str) -> None:
            async with slots:
                await self.kube.delete(objects.CLAIMS, name, namespace=self._namespace)

        await asyncio.gather(*(one(name) for name, life in self.lives.items() if not life.gone))

    async def until(self, condition: Callable[[Life], object], seconds: float) -> bool:
        """Wait until it holds for every claim; whether it does by then."""
        try:
            async with asyncio.timeout(seconds):
                while not all(condition(life) for life in self.lives.values()):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def caches(self) -> tuple[cache.Cache[objects.PersistentVolumeClaim], ...]:
        """What has to run."""
        return self._claims, self._volumes, self._events  # type: ignore[return-value]  # of three kinds

    def listen(self) -> None:
        """Begin to take times."""
        self._claims.subscribe(self._claim)
        self._volumes.subscribe(self._volume)
        self._events.subscribe(self._event)

    def _claim(self, _old: objects.PersistentVolumeClaim | None, new: objects.PersistentVolumeClaim | None) -> None:
        now = time.monotonic()
        known = new or _old
        life = self.lives.get(known.metadata.name) if known else None
        if life is None:
            return
        if new is None:
            life.gone = now
        elif not life.made:
            life.made = now
        if new is not None and new.status.phase == "Bound" and not life.bound:
            life.bound = now
        if new is not None and new.status.phase == "Lost":
            life.lost = now
        self._changed.set()

    def _volume(self, old: objects.PersistentVolume | None, new: objects.PersistentVolume | None) -> None:
        if new is None and old is not None and old.spec.claim_ref is not None:
            life = self.lives.get(old.spec.claim_ref.name)
            if life is not None and old.spec.claim_ref.namespace == self._namespace:
                life.volume_gone = time.monotonic()
                self._changed.set()

    def _event(self, _old: objects.Event | None, new: objects.Event | None) -> None:
        if new is not None and new.type == "Warning":
            self.warnings.append(new)


@asynccontextmanager
async def open_load(
    kubeconfig: Path, *, namespace: str, class_name: str, creators: int = CREATORS
) -> AsyncIterator[Load]:
    """A load that listens."""
    kube = client.Client(config.load(kubeconfig))
    load = Load(kube, namespace=namespace, class_name=class_name, creators=creators)
    running = [asyncio.create_task(one.run()) for one in load.caches()]
    try:
        await asyncio.gather(*(one.synced.wait() for one in load.caches()))
        load.listen()
        yield load
    finally:
        for task in running:
            task.cancel()
        await asyncio.wait(running)
        await kube.close()
