"""Addresses of a guest's own network. They are gvproxy's: what Podman and others know of machines stays true."""

from __future__ import annotations

NETDEV = "net0"
"""QEMU's id of it."""

NET = "192.168.127.0/24"
GATEWAY = "192.168.127.1"
"""Answers the port API, and nothing else."""

GUEST = "192.168.127.2"
DNS = "192.168.127.253"
HOST = "192.168.127.254"
"""The host's 127.0.0.1."""

HOSTS = f"""\
{GATEWAY} gateway.containers.internal gateway.docker.internal
{HOST} host.containers.internal host.docker.internal
"""
"""Lines of the guest's /etc/hosts, from which Podman takes its containers'."""
