"""Choose how many parallel connections a download uses.

A connection is added only if the last one raised the rate (pure).
"""

from __future__ import annotations

MAX_WORKERS = 4
# Each added worker must raise the rate by this factor.
_MIN_GAIN = 1.2
# No worker is added if the download will end sooner than this at the present rate.
_WORTHWHILE_S = 3.0


class Pace:
    """The number of workers. It grows by one as long as the worker that was added last has raised the rate enough."""

    def __init__(self, max_workers: int = MAX_WORKERS) -> None:
        self.workers = 1
        self._max_workers = max_workers
        self._best = 0.0
        self._settled = False

    def retreat(self) -> bool:
        """Go back to one worker for good, and return whether there were several workers."""
        before, self.workers, self._settled = self.workers, 1, True
        return before > 1

    def observe(self, rate: float, left_bytes: int) -> int:
        """Adapt the number of workers to a measured rate in bytes/s, and return the new number."""
        if self._settled:
            return self.workers
        if self._best and rate < self._best * _MIN_GAIN:
            self.workers -= 1
            self._settled = True
        elif self.workers < self._max_workers and left_bytes > rate * _WORTHWHILE_S:
            self._best = rate
            self.workers += 1
        return self.workers
