"""The time zone of a guest."""

from __future__ import annotations

import os
import re
import zoneinfo
from collections.abc import Mapping
from pathlib import Path

from machine.errors import BadInputError

_TIMEZONE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*")
# macOS leads to zoneinfo.default (thlib/go-timezone-local#13), some databases to their part for POSIX.
_DATABASE = re.compile(r".*/zoneinfo(?:\.default)?/(?:posix/)?")

LOCAL = "local"
"""The host's own, whichever that is at a start."""


def resolve_timezone(wanted: str, environment: Mapping[str, str], localtime: Path = Path("/etc/localtime")) -> str:
    """A name of the time zone database; `local` is the host's own, UTC where it has no name.

    Raises:
        BadInputError: it cannot be such a name.
    """
    if wanted == LOCAL:
        candidate = environment.get("TZ", "").removeprefix(":")
        if not candidate or candidate.startswith("/"):
            candidate = _DATABASE.sub("", os.path.realpath(candidate or localtime), count=1)
        return candidate if _TIMEZONE.fullmatch(candidate) else "UTC"
    if not _TIMEZONE.fullmatch(wanted) or not _is_known_zone(wanted):
        raise BadInputError(f'invalid timezone "{wanted}"', hint='give a name like "Europe/Stockholm", or "local"')
    return wanted


def _is_known_zone(name: str) -> bool:
    """By this host's database; a host without one knows no better."""
    databases = [Path(directory) for directory in zoneinfo.TZPATH if Path(directory).is_dir()]
    return not databases or any((directory / name).is_file() for directory in databases)
