"""Which attacher a volume gets: the one that its class names, or the first that this node can use."""

import functools
from collections.abc import Sequence

import structlog

from provisioner import errors, metrics
from provisioner.backends import commands
from provisioner.backends.rbd.attach import api, fuse, krbd, nbd

AUTO = "auto"
_log = structlog.get_logger(__name__)


def all_attachers(runner: commands.Runner) -> Sequence[api.Attacher]:
    """Every attacher, the best first."""
    return krbd.KrbdAttacher(runner), nbd.NbdAttacher(runner), fuse.FuseAttacher(runner)


class Choice:
    """The attachers of one node, each probed once.

    Args:
        attachers: the best first.
        preferred: what to use where a class says `auto`; itself `auto`: the first that can be used.
    """

    def __init__(self, attachers: Sequence[api.Attacher], measured: metrics.Metrics, *, preferred: str = AUTO) -> None:
        self._attachers = {attacher.name: attacher for attacher in attachers}
        self._measured = measured
        self._preferred = preferred

    @functools.cached_property
    def _reasons(self) -> dict[str, str]:
        reasons = {name: attacher.unavailable() for name, attacher in self._attachers.items()}
        usable = [name for name, reason in reasons.items() if not reason]
        for name, reason in reasons.items():
            self._measured.rbd_mounter.labels(name).set(0 if reason else 1)
        _log.info("looked for ways to attach images", usable=usable, not_usable={n: r for n, r in reasons.items() if r})
        return reasons

    def probe(self) -> None:
        """Look at what this node has, and say it in the log and as a metric."""
        _ = self._reasons

    def pick(self, mounter: str) -> api.Attacher:
        """The attacher for a volume whose class says this.

        Raises:
            errors.NotReadyError: this node cannot do it, and why.
        """
        wanted = self._preferred if mounter == AUTO else mounter
        for name, reason in self._reasons.items():
            if not reason and wanted in (AUTO, name):
                return self._attachers[name]
        shown = {n: r for n, r in self._reasons.items() if wanted in (AUTO, n)}
        raise errors.NotReadyError(
            f"this node cannot attach an image ({'; '.join(f'{name}: {reason}' for name, reason in shown.items())})",
            remedy="give it one of the kernel modules rbd and nbd, or qemu-storage-daemon with FUSE",
        )

    def named(self, name: str) -> api.Attacher:
        """The attacher that has attached something before, whether it can be used now or not.

        Raises:
            errors.BackendUnavailableError: there is none of this name.
        """
        found = self._attachers.get(name)
        if found is None:
            raise errors.BackendUnavailableError(f"a volume was attached by {name!a}, which this program does not know")
        return found
