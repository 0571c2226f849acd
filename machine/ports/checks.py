"""Decide which published ports stay, by comparing requests of the port API with Podman's lists of containers (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from machine.model.ports import Claim, Endpoint

PATIENCE_S = 600.0
"""How long a container may take to start after Podman has asked for its first port. An emulated guest needs minutes
for a thousand ports."""


class Cause(StrEnum):
    """Why a port has to be checked."""

    EXPOSED = "exposed"
    """A request of the guest has opened the port."""

    UNEXPOSED = "unexposed"
    """A request of the guest wants the port to be closed."""

    INHERITED = "inherited"
    """An earlier supervisor opened the port, and the container may have ended since."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Check:
    """A pending check of one port. When a request of the guest changes the port, a new check replaces this one."""

    cause: Cause

    since: float
    """When the request was carried out, on the monotonic clock."""

    changes: int = 0
    """How often the port was opened and closed since Podman's list last decided about it."""


class Verdict(StrEnum):
    """Whether a port has to be open or closed, according to Podman's lists."""

    OPEN = "open"
    CLOSED = "closed"

    UNDECIDED = "undecided"
    """Podman has to be asked again later."""


def add_claims(claims: dict[Endpoint, Claim], found: Mapping[Endpoint, Claim]) -> None:
    """Add what another list of containers claims. A running container's claim counts more than any other."""
    claims.update((one, claim) for one, claim in found.items() if claims.get(one) is not Claim.ACTIVE)


def judge(check: Check, claim: Claim | None, *, now: float, complete: bool) -> Verdict:
    """Return whether a port has to be open or closed.

    `claim` is what Podman's lists say about the port, None if no container publishes it. `complete` says whether
    every list of the guest was read. If a list was not read, no port is closed.
    """
    if claim is Claim.ACTIVE:
        return Verdict.OPEN
    if not complete:
        return Verdict.UNDECIDED
    match check.cause:
        case Cause.UNEXPOSED | Cause.INHERITED:
            return Verdict.CLOSED
        case Cause.EXPOSED:
            # Podman asks for ports before the container runs.
            starting = claim is Claim.DORMANT and now - check.since < PATIENCE_S
            return Verdict.UNDECIDED if starting else Verdict.CLOSED
        case _:
            assert_never(check.cause)
