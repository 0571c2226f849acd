"""Waiting for what other processes do."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

WAIT_S = 20


def wait_until(
    condition: Callable[[], object],
    what: str = "what the test waits for",
    *,
    timeout_s: float = WAIT_S,
    every_s: float = 0.05,
) -> None:
    """Return as soon as `condition` holds; a test that waits longer fails."""
    until = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > until:
            pytest.fail(f"waited {timeout_s:.0f} s in vain for {what}")
        time.sleep(every_s)
