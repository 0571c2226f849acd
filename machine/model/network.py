"""The addresses of a guest's network: gvproxy's, which Podman and other programs expect of machines."""

from __future__ import annotations

NETDEV = "net0"
"""QEMU's id for the network."""

NET = "192.168.127.0/24"
GATEWAY = "192.168.127.1"
"""Answers the port API and nothing else."""

GUEST = "192.168.127.2"
DNS = "192.168.127.253"
HOST = "192.168.127.254"
"""Leads to the host's 127.0.0.1."""

HOSTS = f"""\
{GATEWAY} gateway.containers.internal gateway.docker.internal
{HOST} host.containers.internal host.docker.internal
"""
"""Lines for the guest's /etc/hosts, which Podman copies into containers."""
