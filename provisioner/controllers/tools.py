"""What every controller of one watcher works with."""

import dataclasses

from provisioner import csiclient, metrics
from provisioner.controllers import announce, options, pending, world
from provisioner.kube import client as kube_client
from provisioner.kube import clock as kube_clock
from provisioner.kube import queue


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """The same for all: where they read, what they call, whom they tell."""

    client: kube_client.Client
    csi: csiclient.Client
    driver: csiclient.Driver
    known: world.World
    settings: options.Options
    say: announce.Announcer
    pending: pending.Pending
    metrics: metrics.Metrics
    clock: kube_clock.Clock = dataclasses.field(default_factory=kube_clock.LoopClock)

    def queue(self, name: str, handler: queue.Handler) -> queue.KeyedQueue:
        """A work queue with the settings' workers and back-off."""
        return queue.KeyedQueue(
            handler,
            name=name,
            workers=self.settings.workers,
            first=self.settings.retry_min,
            limit=self.settings.retry_max,
            metrics=self.metrics,
            time=self.clock,
        )
