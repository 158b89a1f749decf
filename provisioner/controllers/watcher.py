"""One watcher: the caches, the controllers they feed, and the order in which they begin and end.

The driver is asked who it is; the caches are filled; only then do the controllers see what is there, so that none
decides on half of the picture. At the end, no work is begun any more, what is in hand is finished, and the events are
sent.
"""

import asyncio
import socket
from typing import Any

import structlog

from provisioner import csiclient, errors, metrics, model
from provisioner.controllers import (
    announce,
    assign,
    background,
    bind,
    claims,
    names,
    options,
    pending,
    provision,
    pulse,
    reclaim,
    resolve,
    route,
    tools,
    vacate,
    world,
)
from provisioner.kube import cache, events, objects
from provisioner.kube import client as kube_client
from provisioner.kube import clock as kube_clock
from provisioner.kube import errors as kube_errors

# So many claims at a time are served while their events are written; with more, the events come after.
_FEW = 20
_LONGEST_SILENCE = 180.0
_SWEEP_PAUSE = 30.0
_FLUSH = 1.0

_log = structlog.get_logger(__name__)


class Watcher:
    """Makes, binds and deletes the volumes of one driver.

    Args:
        client: the API server; stays open when the watcher ends.
        csi: the driver, ours or a stranger's; stays open too.
    """

    def __init__(
        self,
        client: kube_client.Client,
        csi: csiclient.Client,
        settings: options.Options,
        measured: metrics.Metrics,
        *,
        time: kube_clock.Clock | None = None,
    ) -> None:
        self._client = client
        self._csi = csi
        self._settings = settings
        self._metrics = measured
        self._instance = settings.node_name or socket.gethostname()
        self._clock = time or kube_clock.LoopClock()
        self._caches: tuple[cache.Cache[Any], ...] = ()
        self.started = asyncio.Event()

    async def check(self) -> None:
        """Say whether the watcher knows what goes on in the cluster, for `/readyz`.

        Raises:
            errors.BackendUnavailableError: it does not, and what is missing.
        """
        for one in self._caches:
            if one.trouble or not one.healthy(_LONGEST_SILENCE):
                raise errors.BackendUnavailableError(
                    f"the watch of {one.kind.plural} does not work: {one.trouble or 'the API server is silent'}"
                )
        if not self.started.is_set():
            raise errors.BackendUnavailableError("the watcher has not begun: it has not reached the CSI driver yet")

    async def run(self) -> None:
        """Work until cancelled, then finish what is in hand, and return within `drain_timeout` and a little.

        Raises:
            errors.BackendUnavailableError: the driver cannot be reached, or cannot make volumes.
            Exception: a cache, the binder or the recorder failed in a way that none of them expects.
        """
        driver, place = await self._driver()
        known = self._world(driver)
        async with background.Background() as beside:
            for one in self._caches:
                beside.run(one.run())
            await beside.during(self._synced())
            waiting = pending.Pending(self._metrics)
            recorder = events.Recorder(
                self._client,
                component=driver.name,
                instance=self._instance,
                busy=lambda: waiting.in_progress() > _FEW,
                time=self._clock,
            )
            beside.run(recorder.run())
            kit = self._kit(driver, known, waiting, recorder)
            try:
                await self._work(kit, place, beside)
            finally:
                self.started.clear()
                await recorder.flush(_FLUSH)

    async def _synced(self) -> None:
        for one in self._caches:
            await one.synced.wait()

    async def _driver(self) -> tuple[csiclient.Driver, model.Topology | None]:
        timeout = self._settings.csi_timeout
        try:
            driver = await self._csi.describe(timeout=timeout)
            node = await self._csi.node_info(timeout=timeout) if self._settings.per_node else None
        except csiclient.CallError as error:
            raise errors.BackendUnavailableError(f"the CSI driver cannot be asked: {error}") from error
        if names.CREATE_DELETE_VOLUME not in driver.controller_capabilities:
            raise errors.BackendUnavailableError(
                f"the CSI driver {driver.name} cannot make volumes", remedy="it lacks CREATE_DELETE_VOLUME"
            )
        if node is not None and node.topology is None:
            raise errors.BackendUnavailableError(
                f"the CSI driver {driver.name} does not say where its node stands",
                remedy="watch the whole cluster from one process instead",
            )
        return driver, node.topology if node else None

    def _world(self, driver: csiclient.Driver) -> world.World:
        def follow(kind: objects.Kind[Any]) -> cache.Cache[Any]:
            return cache.Cache(self._client, kind, metrics=self._metrics, time=self._clock)

        attaches = names.PUBLISH_UNPUBLISH_VOLUME in driver.controller_capabilities
        places = driver.supports_topology and not self._settings.per_node
        known = world.World(
            driver=driver.name,
            claims=follow(objects.CLAIMS),
            volumes=follow(objects.VOLUMES),
            classes=follow(objects.CLASSES),
            csi_nodes=follow(objects.CSI_NODES),
            nodes=follow(objects.NODES) if places else None,
            attachments=follow(objects.ATTACHMENTS) if attaches else None,
        )
        known.add_indexes()
        every = (known.claims, known.volumes, known.classes, known.csi_nodes, known.nodes, known.attachments)
        self._caches = tuple(one for one in every if one is not None)
        return known

    def _kit(
        self, driver: csiclient.Driver, known: world.World, waiting: pending.Pending, recorder: events.Recorder
    ) -> tools.Tools:
        return tools.Tools(
            client=self._client,
            csi=self._csi,
            driver=driver,
            known=known,
            settings=self._settings,
            say=announce.Announcer(recorder),
            pending=waiting,
            metrics=self._metrics,
            clock=self._clock,
        )

    async def _work(self, kit: tools.Tools, place: model.Topology | None, beside: background.Background) -> None:
        view = claims.Viewpoint(
            driver=kit.driver.name,
            eager=self._settings.eager or self._settings.per_node,
            node_name=self._settings.node_name,
        )
        binder = self._binder(kit, beside) if self._settings.eager else None
        assigner = assign.Assigner(kit, view, place) if self._settings.per_node else None
        provisioner = provision.Provisioner(
            kit,
            resolve.Resolver(kit.known, kit.driver, self._settings, place),
            view,
            saved=binder.add if binder else lambda _claim, _volume: None,
            exhausted=assigner.exhausted if assigner else lambda _uid: None,
        )
        reclaimer = reclaim.Reclaimer(kit, place)
        vacator = vacate.Vacator(kit, provisioner.at_work_for)
        queues = [provisioner.queue, reclaimer.queue, vacator.queue, *([assigner.queue] if assigner else [])]
        route.Router(kit.known, provisioner, reclaimer, vacator, binder=binder, assigner=assigner).connect()
        for one in queues:
            one.start()
        self.started.set()
        _log.info("the watcher is at work", driver=kit.driver.name, node=self._settings.node_name or None)
        try:
            await beside.during(_forever())
        finally:
            await asyncio.gather(*(one.close(self._settings.drain_timeout) for one in queues))

    def _binder(self, kit: tools.Tools, beside: background.Background) -> bind.Binder:
        beat = pulse.Pulse(
            self._client, kit.known.volumes, driver=kit.driver.name, timeout=self._settings.pulse_timeout
        )
        binder = bind.Binder(
            self._client,
            kit.known,
            beat,
            self._metrics,
            head_start=self._settings.head_start,
            pause=self._settings.retry_max,
            time=self._clock,
        )
        beside.run(_sweep(beat))
        beside.run(binder.run())
        return binder


async def _sweep(beat: pulse.Pulse) -> None:
    """Remove an earlier process's markers, when the API server lets us."""
    while True:
        try:
            await beat.sweep()
        except kube_errors.KubeError as error:
            _log.warning("left-over marker volumes cannot be listed", error=str(error))
            await asyncio.sleep(_SWEEP_PAUSE)
        else:
            return


async def _forever() -> None:
    await asyncio.Event().wait()
