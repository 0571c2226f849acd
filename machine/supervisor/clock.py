"""Detect that the host has slept. Its monotonic clock stops during sleep, and its wall clock goes on."""

from __future__ import annotations

import time
from collections.abc import Callable

_TOLERANCE_S = 2.0


class HostClock:
    """Compares the host's monotonic clock with its wall clock, which differ after the host has slept.

    They also differ when the wall clock has been set. A slow correction of the wall clock, such as NTP's, is ignored.
    """

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._difference = wall() - monotonic()

    def has_jumped(self) -> bool:
        """Return whether, since the last call, the host has slept or its wall clock has been set."""
        before = self._difference
        self._difference = self._wall() - self._monotonic()
        return abs(self._difference - before) > _TOLERANCE_S
