"""Format times by Go's layouts. A layout shows how the time 2006-01-02 15:04:05 -0700 would be written."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

RFC3339_NANO = "2006-01-02T15:04:05.999999999Z07:00"
_STRING = "2006-01-02 15:04:05.999999999 -0700 MST"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
           "November", "December")  # fmt: skip
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

# Longer tokens come before their prefixes.
_TOKEN = re.compile(
    r"""January|Jan(?![a-z]) | Monday|Mon(?![a-z]) | MST
    | 2006 | __2 | _2(?!006) | 002 | 01 | 02 | 03 | 04 | 05 | 06 | 15 | [1-5]
    | PM | pm
    | [-Z]07:00:00 | [-Z]070000 | [-Z]07:00 | [-Z]0700 | [-Z]07
    | [.,](?:0+|9+)(?![0-9])""",
    re.VERBOSE,
)


def format_time(moment: datetime, layout: str) -> str:
    """Format a time by a layout of Go. Parts of the layout that are not tokens are kept as they are."""
    return _TOKEN.sub(lambda token: _formatted(moment, token[0]), layout)


def time_text(moment: datetime) -> str:
    """Format a time as Go's String method does."""
    return format_time(moment, _STRING)


def month(moment: datetime) -> str:
    return _MONTHS[moment.month - 1]


def weekday(moment: datetime) -> str:
    return _DAYS[moment.weekday()]


def unix(moment: datetime, *, per_second: int) -> int:
    """Return the Unix time in units of 1 / `per_second` seconds, rounded down."""
    return (moment - _EPOCH) * per_second // timedelta(seconds=1)


def _formatted(moment: datetime, token: str) -> str:
    if token in _SIMPLE:
        return _SIMPLE[token](moment)
    if token[0] in ".,":
        digits = f"{moment.microsecond:06}000"[: len(token) - 1]
        if token[1] == "9":
            digits = digits.rstrip("0")
        return token[0] + digits if digits else ""
    return _offset(moment, token)


def _offset(moment: datetime, token: str) -> str:
    seconds = round((moment.utcoffset() or timedelta()).total_seconds())
    if token[0] == "Z" and not seconds:
        return "Z"
    minutes, rest = divmod(abs(seconds), 60)
    parts = [minutes // 60, minutes % 60, rest][: sum(map(str.isdigit, token)) // 2]
    return ("-" if seconds < 0 else "+") + (":" if ":" in token else "").join(f"{part:02}" for part in parts)


def _zone(moment: datetime) -> str:
    name = moment.tzname() or ""
    if name == "UTC" or not name.startswith("UTC"):
        return name
    return _offset(moment, "-0700")  # Python's name for an unnamed offset is UTC+hh:mm


_SIMPLE: dict[str, Callable[[datetime], str]] = {
    "January": month,
    "Jan": lambda moment: month(moment)[:3],
    "Monday": weekday,
    "Mon": lambda moment: weekday(moment)[:3],
    "MST": _zone,
    "2006": lambda moment: f"{moment.year:04}",
    "06": lambda moment: f"{moment.year % 100:02}",
    "01": lambda moment: f"{moment.month:02}",
    "1": lambda moment: str(moment.month),
    "02": lambda moment: f"{moment.day:02}",
    "_2": lambda moment: f"{moment.day:2}",
    "2": lambda moment: str(moment.day),
    "002": lambda moment: f"{moment.timetuple().tm_yday:03}",
    "__2": lambda moment: f"{moment.timetuple().tm_yday:3}",
    "15": lambda moment: f"{moment.hour:02}",
    "03": lambda moment: f"{moment.hour % 12 or 12:02}",
    "3": lambda moment: str(moment.hour % 12 or 12),
    "04": lambda moment: f"{moment.minute:02}",
    "4": lambda moment: str(moment.minute),
    "05": lambda moment: f"{moment.second:02}",
    "5": lambda moment: str(moment.second),
    "PM": lambda moment: "AM" if moment.hour < 12 else "PM",
    "pm": lambda moment: "am" if moment.hour < 12 else "pm",
}
