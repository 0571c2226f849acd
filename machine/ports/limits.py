"""Decide which of the host's ports the containers of a machine may have (pure)."""

from __future__ import annotations

from dataclasses import dataclass

from machine.model.ports import DEFAULT_MAX_PUBLISHED_PORTS, Endpoint, Forward

_PRIVILEGED_BELOW = 1024
_WILDCARDS = ("", "0.0.0.0", "::")  # noqa: S104  (what is limited here)


@dataclass(frozen=True, kw_only=True)
class PublishLimits:
    """Which of the host's ports the containers of a machine may have."""

    allow_wildcard: bool = True
    """Whether containers may publish a port on every address of the host."""

    allow_privileged: bool = True
    """Whether containers may publish ports below 1024, if the operating system lets this process listen there."""

    max_ports: int = DEFAULT_MAX_PUBLISHED_PORTS
    """How many ports all containers may publish together."""


DEFAULT_LIMITS = PublishLimits()


def refusal(forward: Forward, limits: PublishLimits, published: int) -> str | None:
    """If a container may not have a new forward, return why, and what to do about it. If it may, return None.

    `published` is the number of ports that the machine's containers have already.
    """
    endpoint = forward.endpoint
    if not isinstance(endpoint, Endpoint):
        return None
    if not limits.allow_wildcard and endpoint.address in _WILDCARDS:
        return (
            f"cannot publish {endpoint}: containers may not publish on every address of this host; name an address, "
            f"as in 127.0.0.1:{endpoint.port}, or allow it for later starts with: "
            "machine config set allow_wildcard true"
        )
    if not limits.allow_privileged and endpoint.port < _PRIVILEGED_BELOW:
        return (
            f"cannot publish {endpoint}: the machine runs as root, so containers may not publish ports below "
            f"{_PRIVILEGED_BELOW}; choose {_PRIVILEGED_BELOW} or higher, or allow it for later starts with: "
            "machine config set allow_privileged_ports true"
        )
    if published >= limits.max_ports:
        more = 2 * max(published, DEFAULT_MAX_PUBLISHED_PORTS)
        return (
            f"cannot publish {endpoint}: the containers of this machine already publish {published} ports; stop some, "
            f"or allow more for later starts with: machine config set max_published_ports {more}"
        )
    return None
