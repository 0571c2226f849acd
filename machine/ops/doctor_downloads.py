"""Part of `machine doctor`: check what downloads depend on: this host's proxies, certificates and clock."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from machine.image.web import public_url
from machine.model.doctor_check import Check, failure, ok, warning
from machine.model.host import HostOS
from machine.ops.list import Listing
from machine.ops.shared.context import Context
from machine.ops.shared.images import image_cache

_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_CERTIFICATES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")

# A clock that shows an earlier time is wrong, because this program was made later.
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_SET_CLOCK = {HostOS.LINUX: "timedatectl set-ntp true", HostOS.MACOS: "sntp -sS time.apple.com"}
_CLOCK_TOLERANCE = timedelta(minutes=10)


def used_certificates_check(context: Context) -> Check:
    """Check the certificates that are used to verify the servers of downloads."""
    variable = certificates_variable(context.environment)
    return certificates_check(variable, readable=variable is not None and os.access(variable[1], os.R_OK))


def known_moments(listing: Listing, context: Context) -> list[datetime]:
    """Return the times when machines were made and images were fetched. All of these times are certainly past."""
    moments = [listed.record.config.created for listed in listing.machines]
    for base in image_cache(context).bases():
        with contextlib.suppress(ValueError):
            fetched = datetime.fromisoformat(base.fetched)
            moments.append(fetched if fetched.tzinfo else fetched.replace(tzinfo=UTC))
    return moments


def proxies_check(environment: Mapping[str, str], host_os: HostOS) -> Check:
    """Judge the environment variables that set proxies."""
    used = {}
    for name in _PROXIES:
        small, large = environment.get(name, ""), environment.get(name.upper(), "")
        if small and large and small != large:
            return warning(
                "proxies",
                f"{name} and {name.upper()} differ; the first one is used",
                f"unset one of them: unset {name}",
            )
        if value := small or large:
            used[name if small else name.upper()] = value
    for name, value in used.items():
        if not _is_proxy(value):
            return failure(
                "proxies", f"{name}={public_url(value)} is not a valid proxy", f"unset {name}, or set http://HOST:PORT"
            )
    if not used and host_os is HostOS.MACOS:
        # Without variables, the library requests uses macOS's own settings, but guests get only proxies from variables.
        return ok("proxies", "no variable is set, so downloads use the proxies of System Settings, and guests use none")
    if not used:
        return ok("proxies", "none; downloads connect directly")
    return ok("proxies", ", ".join(f"{name}={public_url(value)}" for name, value in used.items()))


def _is_proxy(value: str) -> bool:
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        return bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def certificates_variable(environment: Mapping[str, str]) -> tuple[str, Path] | None:
    """Return the name of the environment variable that points to a file of trusted certificates, and that file's path.

    Return None if no such variable is set.
    """
    return next(((name, Path(environment[name])) for name in _CERTIFICATES if environment.get(name)), None)


def certificates_check(variable: tuple[str, Path] | None, *, readable: bool) -> Check:
    """Judge the file of trusted certificates. `variable` is the result of `certificates_variable`."""
    if variable is None:
        return ok("certificates", "the ones that come with this program")
    name, path = variable
    if not readable:
        return failure("certificates", f"{name} is set to {path}, which cannot be read", f"unset {name}")
    return ok("certificates", f"{path}, from {name}")


def clock_check(now: datetime, known: Collection[datetime], host_os: HostOS) -> Check:
    """Judge this host's clock. All `known` times are past, so a clock that shows an earlier time is wrong."""
    latest = max((*known, _EPOCH))
    if now + _CLOCK_TOLERANCE < latest:
        return warning(
            "clock",
            f"this host's clock is behind: it shows {now:%Y-%m-%d %H:%M} UTC, but the time is later than "
            f"{latest:%Y-%m-%d %H:%M}; certificates and signatures may be rejected",
            f"set the clock: sudo {_SET_CLOCK[host_os]}",
        )
    return ok("clock", f"{now:%Y-%m-%d %H:%M} UTC, later than all machines and images")
