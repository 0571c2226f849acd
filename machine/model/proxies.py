"""The proxies that the host's environment names, as a guest has to name them (pure)."""

from __future__ import annotations

import re
from collections.abc import Mapping

NAMES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")

HOST = "host.containers.internal"
"""The host's loopback, as guests and containers reach it."""

# The scheme and a login, then a name of the loopback, up to its port, a path or the end.
_LOOPBACK = re.compile(
    r"(?P<before>(?:[a-z][a-z0-9+.-]*://)?(?:[^@/]*@)?)(?:localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?=[:/]|$)",
    re.IGNORECASE,
)


def guest_proxies(environment: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The variables by name, in both spellings where the host has both; the host's loopback by its name."""
    found = {
        name: environment[name]
        for lower in NAMES
        for name in (lower, lower.upper())
        # What is no line cannot be told, and an empty one says nothing.
        if environment.get(name) and not re.search(r"[\0\r\n]", environment[name])
    }
    return tuple((name, value if name.lower() == "no_proxy" else _translated(value)) for name, value in found.items())


def _translated(value: str) -> str:
    return _LOOPBACK.sub(lambda found: f"{found['before']}{HOST}", value, count=1) if _LOOPBACK.match(value) else value
