"""`machine env`: find the environment variables that point clients to a machine."""

from __future__ import annotations

import shlex

from machine.ops.shared.api_sockets import socket_url
from machine.ops.shared.context import Context


def variables(name: str, context: Context, *, rootful: bool | None = None) -> dict[str, str]:
    """Return the environment variables with which Docker, Podman and compose clients use the machine.

    Raises:
        NotFoundError: there is no such machine.
    """
    url = socket_url(name, context, rootful=rootful)
    identity = context.roots.machine(name).identity
    return {"DOCKER_HOST": url, "CONTAINER_HOST": url, "CONTAINER_SSHKEY": str(identity), "MACHINE_NAME": name}


def env_command(name: str, *, default: str) -> str:
    """Return the command line that prints these variables for the machine."""
    return "machine env" if name == default else f"machine env {shlex.quote(name)}"
