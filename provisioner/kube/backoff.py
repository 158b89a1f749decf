"""Exponential back-off with jitter: the one way in which anything here waits before it tries again."""

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Backoff:
    """Delays that double from `first` up to `limit`, in seconds."""

    first: float
    limit: float

    def delay(self, failures: int, chance: float) -> float:
        """Seconds to wait after so many failures in a row.

        Args:
            failures: at least one.
            chance: a random number in [0, 1): it spreads the delays over their upper half, so that those who failed
                together do not come back together.
        """
        doublings = min(failures - 1, 62)  # more would not fit into a float, nor into any limit
        whole = min(self.first * 2.0**doublings, self.limit)
        return whole / 2 + whole / 2 * chance
