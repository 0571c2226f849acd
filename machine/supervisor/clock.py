"""Detect that the host has slept. Its monotonic clock stops during sleep, and its wall clock goes on."""

from __future__ import annotations

import time
from collections.abc import Callable

_TOLERANCE_S = 2.0


class HostClock:
    """Compares the host's two clocks.

    Setting the wall clock counts as a jump too. A slow correction, such as NTP's, does not count.
    """

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._difference = wall() - monotonic()

    def has_jumped(self) -> bool:
        """Return whether the host has slept, or its clock has been set, since the last call."""
        before = self._difference
        self._difference = self._wall() - self._monotonic()
        return abs(self._difference - before) > _TOLERANCE_S
