"""Waiting for conditions that other processes bring about."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

WAIT_S = 60
"""How long a test waits for an event. It is a deadline only: a busy host can make a moment long."""


def wait_until(
    condition: Callable[[], object],
    what: str = "what the test waits for",
    *,
    timeout_s: float = WAIT_S,
    every_s: float = 0.05,
) -> None:
    """Wait until `condition` is true; fails the test after `timeout_s`."""
    until = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > until:
            pytest.fail(f"timed out after {timeout_s:.0f} s waiting for {what}")
        time.sleep(every_s)
