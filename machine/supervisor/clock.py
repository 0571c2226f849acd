"""Noticing that the host has slept: its wall clock goes on then, its monotonic one does not."""

from __future__ import annotations

import time
from collections.abc import Callable

_TOLERANCE_S = 2.0


class HostClock:
    """Also notices when the clock is set, which a guest should follow as well; slow corrections are none of both."""

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._difference = wall() - monotonic()

    def has_jumped(self) -> bool:
        """Whether it has since it was last asked."""
        before = self._difference
        self._difference = self._wall() - self._monotonic()
        return abs(self._difference - before) > _TOLERANCE_S
