"""How much of a volume is used. A plain directory keeps no count, so its tree is walked; answers are kept for a while.

One walk at a time for each volume and two altogether; who asks meanwhile gets the last answer. The longer a walk
took, the longer its answer is kept, so that walking never takes more than a twentieth of a thread.
"""

import contextlib
import dataclasses
import os
import threading
import time
from collections.abc import Callable

from provisioner import errors, model
from provisioner.backends.directory import files

_FRESH_SECONDS = 30.0
_REST_FACTOR = 20
_WALKS = 2
_BLOCK = 512
# Two open files for each level and walk: both walks together stay far below the usual limit of 1,024 for a process.
_DEPTH = 100
_KEPT = 4096


@dataclasses.dataclass(frozen=True, slots=True)
class _Answer:
    used: int
    until: float


class Meter:
    """Measures volumes and remembers."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._answers: dict[model.VolumeId, _Answer] = {}
        self._walking: set[model.VolumeId] = set()
        self._lock = threading.Lock()

    def used(self, volume_id: model.VolumeId, data: int) -> int:
        """Bytes used below the open directory, at most about a minute old for a tree that is walked in seconds.

        Raises:
            errors.OperationPendingError: the first measurement has not ended.
        """
        now = self._clock()
        with self._lock:
            answer = self._answers.get(volume_id)
            if answer is not None and answer.until > now:
                return answer.used
            if volume_id in self._walking or len(self._walking) >= _WALKS:
                if answer is not None:
                    return answer.used
                raise errors.OperationPendingError(
                    f"the usage of volume {volume_id} is still being measured", remedy="ask again later"
                )
            self._walking.add(volume_id)
        try:
            return self._measure(volume_id, data)
        finally:
            with self._lock:
                self._walking.discard(volume_id)

    def _measure(self, volume_id: model.VolumeId, data: int) -> int:
        begun = self._clock()
        used = measure(data)
        ended = self._clock()
        answer = _Answer(used, ended + max(_FRESH_SECONDS, _REST_FACTOR * (ended - begun)))
        with self._lock:
            self._answers.pop(volume_id, None)
            self._answers[volume_id] = answer
            while len(self._answers) > _KEPT:
                del self._answers[next(iter(self._answers))]
        return used


def measure(directory: int) -> int:
    """Bytes that the tree below the open directory takes on disk.

    Hard links count once; what is mounted below, or lies deeper than 100 directories, does not count.
    """
    return os.fstat(directory).st_blocks * _BLOCK + round(_measure_below(directory, _DEPTH))


def _measure_below(directory: int, depth: int) -> float:
    total = 0.0
    with os.scandir(directory) as scan:
        for entry in scan:
            # The Pod works in the tree: what is removed meanwhile takes no room, a mount is not the volume's.
            with contextlib.suppress(OSError):
                total += _measure_entry(directory, entry, depth)
    return total


def _measure_entry(directory: int, entry: os.DirEntry[str], depth: int) -> float:
    found = entry.stat(follow_symlinks=False)
    if entry.is_dir(follow_symlinks=False):
        if depth == 0:
            return 0.0
        with files.directory(directory, entry.name) as below:
            return found.st_blocks * _BLOCK + _measure_below(below, depth - 1)
    # A link stands for its share: all of them are in the volume, and a Pod can make more than could be remembered.
    return found.st_blocks * _BLOCK / max(1, found.st_nlink)
