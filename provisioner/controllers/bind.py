"""Binds claims to the volumes made for them, faster than the kube-controller-manager's binder may.

`provision` feeds it. A volume gets a head start, in which a binder with nothing else to do binds it by itself. Those
still unbound then are taken as one batch: a pulse (see `pulse`) shows when the binder knows them all, and the claims
and both statuses are patched just as the binder would. While one batch is patched, the next one already waits for its
pulse. Whatever goes wrong is left to the binder, which gets there by itself: nothing here has to happen.
"""

import asyncio
import collections
import dataclasses
import enum
from collections.abc import Coroutine
from typing import Any

import structlog

from provisioner import metrics
from provisioner.controllers import claims, names, pulse, world
from provisioner.kube import client as kube_client
from provisioner.kube import clock, objects
from provisioner.kube import errors as kube_errors

_LARGEST_BATCH = 500
_PATCHES_AT_ONCE = 16
_LAST_SECONDS = 1.0

# A binder that takes longer to answer a pulse is behind with its writes.
_BUSY_SECONDS = 1.0

_log = structlog.get_logger(__name__)


class Outcome(enum.Enum):
    """How a claim that was to be bound ended, as `provisioner_bind_total` counts it."""

    EAGER = "eager"
    BINDER = "binder"
    LEFT = "left-to-binder"
    LOST_RACE = "conflict"
    REPAIRED = "lost-repaired"


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """A claim and the volume that was made for it."""

    claim: objects.PersistentVolumeClaim
    volume: objects.PersistentVolume


class Binder:
    """Binds what it is given; `run` it for as long as the process may."""

    def __init__(
        self,
        client: kube_client.Client,
        known: world.World,
        beat: pulse.Pulse,
        measured: metrics.Metrics,
        *,
        head_start: float,
        pause: float,
        time: clock.Clock,
    ) -> None:
        """Nothing runs yet.

        Args:
            head_start: the seconds that the binder gets to bind a claim by itself.
            pause: the seconds for which all is left to the binder after a permission was found missing.
        """
        self._client = client
        self._known = known
        self._pulse = beat
        self._counter = measured.bind_total
        self._head_start = head_start
        self._pause = pause
        self._clock = time
        self._forbidden_until = 0.0
        self._fallen_back = False
        self._waiting: collections.deque[tuple[float, Pair]] = collections.deque()
        self._wake = asyncio.Event()
        self._slots = asyncio.Semaphore(_PATCHES_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, claim: objects.PersistentVolumeClaim, volume: objects.PersistentVolume) -> None:
        """Bind the claim to its volume, which exists; returns at once."""
        if self._clock.time() >= self._forbidden_until:
            self._waiting.append((self._clock.time() + self._head_start, Pair(claim, volume)))
            self._wake.set()

    async def run(self) -> None:
        """Bind until cancelled; then finish what has been begun, as far as it takes no time."""
        try:
            while True:
                await self._wake.wait()
                await self._clock.sleep(max(0.0, self._waiting[0][0] - self._clock.time()))
                batch = [pair for pair in self._due() if self._still_unbound(pair)]
                if not self._waiting:
                    self._wake.clear()
                if batch:
                    await self._bind(batch)
        finally:
            self._spawn(self._pulse.tidy())
            _, late = await asyncio.wait(tuple(self._tasks), timeout=_LAST_SECONDS)
            for task in late:
                task.cancel()

    def repair(self, claim: objects.PersistentVolumeClaim) -> None:
        """Look whether a claim that was declared Lost has its volume after all, and bind it again; returns at once."""
        self._spawn(self._repair(claim))

    def _due(self) -> list[Pair]:
        now = self._clock.time()
        due: list[Pair] = []
        while self._waiting and self._waiting[0][0] <= now and len(due) < _LARGEST_BATCH:
            due.append(self._waiting.popleft()[1])
        return due

    def _still_unbound(self, pair: Pair) -> bool:
        meta = pair.claim.metadata
        now = self._known.claim(meta.namespace, meta.name, meta.uid)
        if now is not None and not now.spec.volume_name and now.metadata.deletion_timestamp is None:
            return True
        self._count(Outcome.BINDER)
        return False

    def _is_known(self, volume: objects.PersistentVolume) -> bool:
        """Whether the volume is still there: the marker's answer came by the same watch, after it.

        A claim that is bound to a volume that was deleted meanwhile, or made anew behind the marker, would be Lost.
        """
        found = self._known.volumes.get(volume.metadata.name)
        return found is not None and found.metadata.uid == volume.metadata.uid

    async def _bind(self, batch: list[Pair]) -> None:
        begun = self._clock.time()
        try:
            answered = await self._pulse.beat()
        except kube_errors.ForbiddenError as error:
            self._give_up(error)
            answered = False
        except kube_errors.KubeError as error:
            self._fall_back(f"the binder's pulse cannot be taken: {error}")
            answered = False
        self._spawn(self._pulse.tidy())
        if not answered:
            self._fall_back("the binder did not answer the pulse in time")
            self._count(Outcome.LEFT, len(batch))
            return
        busy = self._clock.time() - begun > _BUSY_SECONDS
        for pair in batch:
            if busy and not self._is_asked_for(pair):
                self._put_off(pair)
            else:
                self._spawn(self._bind_one(pair))

    def _is_asked_for(self, pair: Pair) -> bool:
        """Whether the binder has written its wish for a volume: it is not about to change the claim then."""
        meta = pair.claim.metadata
        now = self._known.claim(meta.namespace, meta.name, meta.uid)
        return now is not None and bool(claims.asked_of(now))

    def _put_off(self, pair: Pair) -> None:
        """Bind the claim with the next batch.

        A busy binder may have its wish for a volume ready, and wait for its turn to write it: it would find the claim
        changed, and warn the user. Its writes have an order, so those that waited are done by the next answer.
        """
        self._waiting.append((self._clock.time(), pair))
        self._wake.set()

    async def _bind_one(self, pair: Pair) -> None:
        async with self._slots:
            if not self._still_unbound(pair):
                return
            if not self._is_known(pair.volume):
                self._count(Outcome.LEFT)
                return
            try:
                await self._patch(pair)
                outcome = Outcome.EAGER
                self._catch_up()
            except (kube_errors.NotFoundError, kube_errors.ConflictError, kube_errors.InvalidError):
                # Gone, a namesake, or bound by somebody else: `reclaim` removes a volume whose claim went elsewhere.
                outcome = Outcome.LOST_RACE
            except kube_errors.ForbiddenError as error:
                self._give_up(error)
                outcome = Outcome.LEFT
            except kube_errors.KubeError as error:
                _log.info("a claim is left to the binder", claim=pair.claim.metadata.key, error=str(error))
                outcome = Outcome.LEFT
            self._count(outcome)

    async def _patch(self, pair: Pair) -> None:
        meta, volume = pair.claim.metadata, pair.volume
        await self._client.patch(
            objects.CLAIMS,
            meta.name,
            {
                "metadata": {
                    "uid": meta.uid,
                    "annotations": {names.BIND_COMPLETED: "yes", names.BOUND_BY_CONTROLLER: "yes"},
                },
                "spec": {"volumeName": volume.metadata.name},
            },
            namespace=meta.namespace,
        )
        await asyncio.gather(
            self._client.patch(
                objects.VOLUMES,
                volume.metadata.name,
                {"metadata": {"uid": volume.metadata.uid}, "status": {"phase": "Bound"}},
                subresource="status",
            ),
            self._client.patch(objects.CLAIMS, meta.name, _bound(pair), namespace=meta.namespace, subresource="status"),
        )

    async def _repair(self, claim: objects.PersistentVolumeClaim) -> None:
        try:
            volume = await self._client.get(objects.VOLUMES, claim.spec.volume_name)
            reference = volume.spec.claim_ref
            if reference is None or reference.uid != claim.metadata.uid:
                return
            await self._client.patch(
                objects.CLAIMS,
                claim.metadata.name,
                _bound(Pair(claim, volume)),
                namespace=claim.metadata.namespace,
                subresource="status",
            )
        except kube_errors.KubeError as error:
            _log.warning("a Lost claim cannot be repaired", claim=claim.metadata.key, error=str(error))
        else:
            _log.warning("a claim was declared Lost although its volume exists", claim=claim.metadata.key)
            self._count(Outcome.REPAIRED)

    def _give_up(self, error: kube_errors.ForbiddenError) -> None:
        self._fall_back(str(error))
        self._forbidden_until = self._clock.time() + self._pause

    def _fall_back(self, why: str) -> None:
        """Say that claims are left to the binder: once, until one is bound eagerly again."""
        if not self._fallen_back:
            _log.warning("claims are bound at the kube-controller-manager's own pace", error=why)
        self._fallen_back = True

    def _catch_up(self) -> None:
        if self._fallen_back:
            _log.info("claims are bound at full speed again")
        self._fallen_back = False

    def _count(self, outcome: Outcome, number: int = 1) -> None:
        self._counter.labels(outcome.value).inc(number)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _bound(pair: Pair) -> dict[str, Any]:
    spec = pair.volume.spec
    return {
        "metadata": {"uid": pair.claim.metadata.uid},
        "status": {
            "phase": "Bound",
            "accessModes": list(spec.access_modes),
            "capacity": {"storage": spec.capacity.storage},
        },
    }
