"""Times as Go's encoding/json writes them, which is what Podman prints."""

from __future__ import annotations

from datetime import UTC, datetime

from machine.model.state import State

NEVER = datetime.min.replace(tzinfo=UTC)
"""Go's zero time."""


def rfc3339(moment: datetime | None) -> str:
    """With no more digits of a second than it has; None is never."""
    date, dot, rest = (moment or NEVER).isoformat().replace("+00:00", "Z").partition(".")
    return f"{date}{dot}{rest[:6]}".rstrip("0") + rest[6:] if dot else date


def uptime_s(last_up: datetime | None, state: State, now: datetime) -> int:
    """Whole seconds since the machine's start has ended; 0 of one that does not run."""
    return max(0, int((now - last_up).total_seconds())) if last_up and state.is_up else 0
