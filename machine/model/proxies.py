"""Translate the proxies of the host's environment for a guest (pure)."""

from __future__ import annotations

import re
from collections.abc import Mapping

NAMES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")

HOST = "host.containers.internal"
"""The name by which guests and containers reach the host's loopback address."""

# A scheme and credentials, then a name of the loopback address, followed by a port, a path or the end.
_LOOPBACK = re.compile(
    r"(?P<before>(?:[a-z][a-z0-9+.-]*://)?(?:[^@/]*@)?)(?:localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?=[:/]|$)",
    re.IGNORECASE,
)


def guest_proxies(environment: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return the proxy variables to set in the guest, from those set on the host. Names keep their case."""
    found = {
        name: environment[name]
        for lower in NAMES
        for name in (lower, lower.upper())
        # A value must be one line, since the guest reads one line per variable. An empty value means no proxy.
        if environment.get(name) and not re.search(r"[\0\r\n]", environment[name])
    }
    return tuple((name, value if name.lower() == "no_proxy" else _translate(value)) for name, value in found.items())


def _translate(value: str) -> str:
    return _LOOPBACK.sub(lambda found: f"{found['before']}{HOST}", value, count=1) if _LOOPBACK.match(value) else value
