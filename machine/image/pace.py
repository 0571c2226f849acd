"""How many connections a download deserves, decided by what each of them brings (pure)."""

from __future__ import annotations

MAX_WORKERS = 4
# One more worker has to bring so much more.
_MIN_GAIN = 1.2
# So many seconds have to be left at the present rate for another worker to be worth it.
_WORTHWHILE_S = 3.0


class Pace:
    """Decides how many workers there should be: one more as long as the last one brought enough."""

    def __init__(self, max_workers: int = MAX_WORKERS) -> None:
        self.workers = 1
        self._max_workers = max_workers
        self._best = 0.0
        self._settled = False

    def retreat(self) -> bool:
        """Go back to one worker for good; returns whether there were to be more."""
        had, self.workers, self._settled = self.workers, 1, True
        return had > 1

    def observe(self, rate: float, left_bytes: int) -> int:
        """Take in a measurement in bytes/s; returns the number of workers from now on."""
        if self._settled:
            return self.workers
        if self._best and rate < self._best * _MIN_GAIN:
            self.workers -= 1
            self._settled = True
        elif self.workers < self._max_workers and left_bytes > rate * _WORTHWHILE_S:
            self._best = rate
            self.workers += 1
        return self.workers
