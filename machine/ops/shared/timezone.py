"""Check and resolve the time zones of guests."""

from __future__ import annotations

import os
import re
import zoneinfo
from collections.abc import Mapping
from pathlib import Path

from machine.errors import BadInputError

_TIMEZONE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*")
# On macOS the link points into zoneinfo.default (thlib/go-timezone-local#13), on Linux sometimes into posix/.
_DATABASE = re.compile(r".*/zoneinfo(?:\.default)?/(?:posix/)?")

LOCAL = "local"
"""The setting for a guest that gets the host's time zone at each start."""


def resolve_timezone(name: str, environment: Mapping[str, str], localtime: Path = Path("/etc/localtime")) -> str:
    """Check that there is a time zone of this name, and return the name.

    For the name `local`, return the name of the host's time zone, or `UTC` if the host's time zone has no name.

    Raises:
        BadInputError: this host's time zone database has no time zone of this name.
    """
    if name == LOCAL:
        candidate = environment.get("TZ", "").removeprefix(":")
        if not candidate or candidate.startswith("/"):
            candidate = _DATABASE.sub("", os.path.realpath(candidate or localtime), count=1)
        return candidate if _TIMEZONE.fullmatch(candidate) else "UTC"
    if not _TIMEZONE.fullmatch(name) or not _is_known_zone(name):
        raise BadInputError(f'invalid timezone "{name}"', hint='use a name like "Europe/Stockholm", or "local"')
    return name


def _is_known_zone(name: str) -> bool:
    """Return whether this host's time zone database has the zone. On a host without such a database, return True."""
    databases = [Path(directory) for directory in zoneinfo.TZPATH if Path(directory).is_dir()]
    return not databases or any((directory / name).is_file() for directory in databases)
