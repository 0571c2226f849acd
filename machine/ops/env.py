"""`machine env`: find the environment variables that point clients to a machine."""

from __future__ import annotations

import shlex

from machine.ops.shared.api_sockets import socket_url
from machine.ops.shared.context import Context
from machine.store import records
from machine.store.paths import identity_of


def variables(name: str, context: Context, *, rootful: bool | None = None) -> dict[str, str]:
    """Return the environment variables by which Docker, Podman and compose clients find the machine.

    Raises:
        NotFoundError: there is no such machine.
    """
    config = records.load(context.roots, name).config
    url = socket_url(name, context, rootful=rootful)
    return {
        "DOCKER_HOST": url,
        "CONTAINER_HOST": url,
        "CONTAINER_SSHKEY": str(identity_of(config, context.roots.machine(name))),
        "MACHINE_NAME": name,
        # What Testcontainers mounts into its container that cleans up. The path is one of the guest.
        "TESTCONTAINERS_DOCKER_SOCKET_OVERRIDE": config.socket_in_guest(
            rootful=config.rootful if rootful is None else rootful
        ),
    }


def env_command(name: str, *, default: str) -> str:
    """Return the `machine env` command line that prints the machine's variables. The name `default` is left out."""
    return "machine env" if name == default else f"machine env {shlex.quote(name)}"
