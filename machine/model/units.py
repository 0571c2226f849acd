"""Format sizes and times for people in the form of docker/go-units, which podman uses."""

from __future__ import annotations

from datetime import datetime

MIB = 1024**2
GIB = 1024**3

_BINARY_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def bytes_size(count: float) -> str:
    """Format a number of bytes with four significant digits, such as `2GiB` for 2147483648."""
    unit = 0
    while count >= 1024 and unit < len(_BINARY_UNITS) - 1:
        count /= 1024
        unit += 1
    return f"{count:.4g}{_BINARY_UNITS[unit]}"


def human_duration(seconds: float) -> str:  # noqa: PLR0911  (a table)
    """Format a duration in its largest unit, such as `28 hours` for 100000 seconds."""
    count = int(seconds)
    if count < 1:
        return "Less than a second"
    if count == 1:
        return "1 second"
    if count < 60:
        return f"{count} seconds"
    minutes = count // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = (count + 1800) // 3600  # half an hour or more counts as an hour
    if hours == 1:
        return "About an hour"
    for limit, size, unit in ((48, 1, "hours"), (24 * 14, 24, "days"), (24 * 60, 24 * 7, "weeks")):
        if hours < limit:
            return f"{hours // size} {unit}"
    if hours < 24 * 365 * 2:
        return f"{hours // (24 * 30)} months"
    return f"{count // (3600 * 24 * 365)} years"


def ago(moment: datetime, now: datetime) -> str:
    return f"{human_duration((now - moment).total_seconds())} ago"
