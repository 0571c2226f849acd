"""Define the addresses of a guest's network.

They are the same addresses as in gvproxy's network, because Podman and other programs expect these.
"""

from __future__ import annotations

from enum import StrEnum

NETDEV = "net0"
"""The id of the network in QEMU."""

NET = "192.168.127.0/24"
GATEWAY = "192.168.127.1"
"""The address that answers the port API and nothing else."""

GUEST = "192.168.127.2"
DNS = "192.168.127.253"
HOST = "192.168.127.254"
"""The address that leads to the host's 127.0.0.1."""

HOSTS = f"""\
{GATEWAY} gateway.containers.internal gateway.docker.internal
{HOST} host.containers.internal host.docker.internal
"""
"""Lines for the guest's /etc/hosts. Podman copies that file into containers."""


class ResolverChoice(StrEnum):
    """Whether this host itself answers a guest's questions about names, as users set it."""

    AUTO = "auto"
    """Only if QEMU's network cannot pass the questions on to a server."""

    ON = "on"
    OFF = "off"
