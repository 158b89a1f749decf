"""Counts the claims of ours that are not bound, by what each is waiting for (`provisioner_pending_claims`)."""

import collections

from provisioner import metrics


class Pending:
    """The reason for each pending claim, by the claim's uid."""

    def __init__(self, measured: metrics.Metrics) -> None:
        self._gauge = measured.pending_claims
        self._reasons: dict[str, str] = {}
        self._counts: collections.Counter[str] = collections.Counter()

    def set(self, uid: str, reason: str) -> None:
        """The claim waits for this now."""
        before = self._reasons.get(uid)
        if before == reason:
            return
        self._reasons[uid] = reason
        self._count(reason, 1)
        if before is not None:
            self._count(before, -1)

    def clear(self, uid: str) -> None:
        """The claim waits no more: it is bound, gone, or not ours."""
        before = self._reasons.pop(uid, None)
        if before is not None:
            self._count(before, -1)

    def in_progress(self) -> int:
        """The claims that are being served just now."""
        return self._counts["provisioning"] + self._counts["binding"]

    def _count(self, reason: str, change: int) -> None:
        self._counts[reason] += change
        self._gauge.labels(reason).set(self._counts[reason])
