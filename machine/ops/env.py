"""How other programs reach a machine: variables and addresses."""

from __future__ import annotations

import shlex
from pathlib import Path

from machine.errors import NotFoundError
from machine.model.config import MachineConfig
from machine.ops.shared.context import Context
from machine.podman.connections import ConnectionsFile, connection_uri, connections_file
from machine.store import records

ADDRESS = "127.0.0.1"
"""Of every machine: its published ports are the host's own."""


def socket_url(name: str, context: Context, *, rootful: bool | None = None) -> str:
    """The URL of the machine's API socket on this host; None for `rootful` is the machine's own preference.

    Raises:
        NotFoundError: there is no such machine.
    """
    return connection_uri(api_socket(name, context, rootful=rootful))


def api_socket(name: str, context: Context, *, rootful: bool | None = None) -> Path:
    """The machine's API socket on this host; None for `rootful` is the machine's own preference.

    Raises:
        NotFoundError: there is no such machine.
    """
    config = records.load(context.roots, name)
    paths = context.roots.machine(name)
    wanted = config.rootful if rootful is None else rootful
    return paths.api_socket(rootful=wanted)


def variables(name: str, context: Context, *, rootful: bool | None = None) -> dict[str, str]:
    """What Docker's, Podman's and compose's clients read.

    Raises:
        NotFoundError: there is no such machine.
    """
    url = socket_url(name, context, rootful=rootful)
    identity = context.roots.machine(name).identity
    return {"DOCKER_HOST": url, "CONTAINER_HOST": url, "CONTAINER_SSHKEY": str(identity), "MACHINE_NAME": name}


def check_exists(name: str, context: Context) -> None:
    """Raises:
    NotFoundError: there is no such machine.
    """
    records.load(context.roots, name)


def active(context: Context) -> str:
    """The machine that a client without options would reach: by the environment, else by Podman's default.

    Raises:
        NotFoundError: it is none.
    """
    machines = [entry for entry in records.load_all(context.roots) if isinstance(entry, MachineConfig)]
    for variable in ("DOCKER_HOST", "CONTAINER_HOST"):
        if url := context.environment.get(variable):
            urls = {
                socket_url(config.name, context, rootful=kind): config for config in machines for kind in (False, True)
            }
            if url not in urls:
                raise NotFoundError(f"{variable} leads to {url}, which is no machine")
            return urls[url].name
    named = context.environment.get("CONTAINER_CONNECTION")
    default = named or ConnectionsFile(connections_file(context.environment, context.home)).default()
    for config in machines:
        if default in config.connections:
            return config.name
    if named:
        raise NotFoundError(f"CONTAINER_CONNECTION leads to {named}, which is no machine")
    raise NotFoundError("no machine is the default connection", hint='choose one with: eval "$(machine env NAME)"')


def env_command(name: str, *, default: str) -> str:
    """The command that a person types again."""
    return "machine env" if name == default else f"machine env {shlex.quote(name)}"
