"""Finds out how far the kube-controller-manager's binder has come, by sending a marker through its own queue.

The binder has one worker for volumes, and it takes them in the order in which they were made. A marker volume that no
claim can have is made after a batch of real ones; when the binder has marked it `Available`, it knows every volume
of the batch. Before that, a claim that says it is bound would be declared Lost.

Each marker has a name of its own, since a name that is queued already would keep its old place, and sorts behind
`pvc-…`, so that a binder that lists everything anew keeps the order. It is deleted as soon as it has served.
"""

import asyncio
import uuid
from typing import Any

import structlog

from provisioner.controllers import names
from provisioner.kube import cache, objects
from provisioner.kube import client as kube_client
from provisioner.kube import errors as kube_errors

# A namespace is a DNS label: nobody can make one with a dot, so no claim can ever match.
_NOWHERE = "binding.pulse"
_NO_DRIVER = "pulse.csi.provisioner"

_log = structlog.get_logger(__name__)


class Pulse:
    """Sends markers and waits for the binder's answers. At most one process of a cluster should."""

    def __init__(
        self,
        client: kube_client.Client,
        volumes: cache.Cache[objects.PersistentVolume],
        *,
        driver: str,
        timeout: float,
    ) -> None:
        """Listen to `volumes`; nothing is sent yet.

        Args:
            driver: the driver's name: whose markers these are.
            timeout: the seconds that the binder has to answer.
        """
        self._client = client
        self._driver = driver
        self._timeout = timeout
        self._answers: dict[str, asyncio.Future[None]] = {}
        self._litter: set[str] = set()
        volumes.subscribe(self._seen)

    async def beat(self) -> bool:
        """Send a marker; True when the binder has answered, and so knows every volume made before the call.

        Raises:
            kube_errors.KubeError: the marker cannot be made.
        """
        name = f"zz-pulse-{uuid.uuid4().hex}"
        answer = self._answers[name] = asyncio.get_running_loop().create_future()
        # Before the request: one whose answer is lost may have made the marker all the same.
        self._litter.add(name)
        try:
            await self._client.create(objects.VOLUMES, self._marker(name))
            await asyncio.wait_for(answer, self._timeout)
        except TimeoutError:
            return False
        finally:
            del self._answers[name]
        return True

    async def tidy(self) -> None:
        """Delete the markers that have served; what cannot be deleted now is tried again the next time."""
        for name in tuple(self._litter):
            if name in self._answers:
                continue
            try:
                await self._client.delete(objects.VOLUMES, name)
            except kube_errors.NotFoundError:
                pass
            except kube_errors.KubeError as error:
                _log.warning("a marker volume cannot be deleted", pv=name, error=str(error))
                return
            self._litter.discard(name)

    async def sweep(self) -> None:
        """Find the markers that an earlier process has left, and delete them.

        Raises:
            kube_errors.KubeError: they cannot be listed.
        """
        page = await self._client.list(objects.VOLUMES, label_selector=f"{names.PULSE_LABEL}={self._driver}")
        self._litter.update(volume.metadata.name for volume in page.items)
        await self.tidy()

    def _seen(self, _old: objects.PersistentVolume | None, new: objects.PersistentVolume | None) -> None:
        if new is None or new.status.phase != "Available":
            return
        answer = self._answers.get(new.metadata.name)
        if answer is not None and not answer.done():
            answer.set_result(None)

    def _marker(self, name: str) -> dict[str, Any]:
        return {
            "metadata": {"name": name, "labels": {names.PULSE_LABEL: self._driver}},
            "spec": {
                "capacity": {"storage": "1"},
                "accessModes": ["ReadWriteOncePod"],
                "persistentVolumeReclaimPolicy": "Retain",
                "storageClassName": name,
                "claimRef": {"namespace": _NOWHERE, "name": name},
                "csi": {"driver": _NO_DRIVER, "volumeHandle": name},
            },
        }
