"""Format times as Podman does, which uses Go's encoding/json."""

from __future__ import annotations

from datetime import UTC, datetime

from machine.model.state import State

NEVER = datetime.min.replace(tzinfo=UTC)
"""Go's zero time, which Podman uses for a time that has never come."""


def rfc3339(moment: datetime | None) -> str:
    """Format a time without trailing zeros in the fraction of a second. The time None stands for "never"."""
    date, dot, rest = (moment or NEVER).isoformat().replace("+00:00", "Z").partition(".")
    return f"{date}{dot}{rest[:6]}".rstrip("0") + rest[6:] if dot else date


def uptime_s(last_up: datetime | None, state: State, now: datetime) -> int:
    """Return for how many whole seconds a machine has been up. If the machine is not up, return 0."""
    return max(0, int((now - last_up).total_seconds())) if last_up and state.is_up else 0
