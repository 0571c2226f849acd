"""Part of `machine doctor`: check the clients that machines are registered with."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

from machine.errors import MachineError
from machine.model.doctor_check import Check, failure_from, ok, warning
from machine.model.host import Host, Installer
from machine.ops.doctor_directories import check_directory, make_writable, unwritable
from machine.ops.shared.client_registration import sockets_of
from machine.ops.shared.client_variables import Choice
from machine.ops.shared.context import Context
from machine.ops.shared.podman_default import default_connection_of
from machine.podman import docker_context, legacy_connections
from machine.podman.connections import (
    Connection,
    ConnectionsFile,
    connection_uri,
    connections_file,
    next_default,
    socket_of,
)
from machine.store.filesystem import DirectoryFacts
from machine.store.paths import MachinePaths

_DEFAULT = "default connection"

PODMAN = dict.fromkeys(Installer, "podman")


def client_checks(context: Context, machines: Mapping[str, MachinePaths]) -> Iterator[Check]:
    """Check the Podman and Docker clients on this host, and the clients' files in which machines are registered.

    `machines` has the paths of every machine by its name.
    """
    path = connections_file(context.environment, context.home)
    client, installed = legacy_connections.find_client(), shutil.which("podman")
    if client is None and installed:
        yield warning("podman", f"{installed} does not run", "repair or reinstall it")
    else:
        yield podman_check(client, context.host, path)
    name = "podman connections"
    try:
        known = len(ConnectionsFile(path).uris())
    except MachineError as error:
        yield failure_from(name, error)
    else:
        yield _client_files(name, path.parent, f"{known or 'none yet'} in {path}")
        if client:
            yield from _default_connection(client, context, machines)
    contexts = docker_context.docker_config(context.environment, context.home) / "contexts" / "meta"
    program = shutil.which("docker")
    reader = f", which {program} reads" if program else "; docker, which reads this directory, is not on PATH"
    yield _client_files("docker contexts", contexts, f"{contexts}{reader}")


def _default_connection(
    client: legacy_connections.Client, context: Context, machines: Mapping[str, MachinePaths]
) -> Iterator[Check]:
    try:
        default = default_connection_of(client, context)
    except MachineError as error:
        yield warning(_DEFAULT, error.message, error.hint)
    else:
        socket = socket_of(default) if default else None
        is_missing = socket is not None and not socket.exists()
        yield default_connection_check(default, machines, is_missing=is_missing)


def default_connection_check(
    default: Connection | None, machines: Mapping[str, MachinePaths], *, is_missing: bool
) -> Check:
    """Judge the connection that Podman uses by default. `is_missing` says whether it leads to a socket that is gone."""
    if default is None:
        return ok(_DEFAULT, "none")
    for name, paths in machines.items():
        if default.uri in map(connection_uri, sockets_of(paths)):
            return ok(_DEFAULT, f'{default.name}, which is the machine "{name}"')
    if not is_missing:
        return ok(_DEFAULT, f"{default.name}, which leads to {default.uri} and is no machine on this host")
    remove = f"podman system connection rm {default.name}"
    other = next_default([name for name in machines if name != default.name], rootful=())
    return warning(
        _DEFAULT,
        f"{default.name} leads to {default.uri}, which is gone and belongs to no machine",
        f"podman system connection default {other}, or: {remove}" if other else remove,
    )


def variables_checks(chosen: Iterable[Choice]) -> list[Check]:
    """Judge the variables that make clients use another service than their default one."""
    return [
        ok(choice.variable, f'it leads to the machine "{choice.machine}"')
        if choice.machine
        else warning(choice.variable, choice.problem, f"unset {choice.variable}")
        for choice in chosen
    ]


def _client_files(name: str, directory: Path, finding: str) -> Check:
    return check_directory(name, directory, {}, partial(client_files_check, finding=finding))


def podman_check(client: legacy_connections.Client | None, host: Host, connections: Path) -> Check:
    """Report which version of Podman's client this host has. `client` is None if Podman is not installed."""
    if client is None:
        return warning(
            "podman",
            "podman is not on PATH; without it, use machine ssh or Docker's clients",
            host.install_hint(PODMAN, "podman"),
        )
    version = ".".join(map(str, client.version)) if client.version else "of unknown version"
    if client.is_legacy:
        return ok("podman", f"{client.path} {version}, which keeps connections in containers.conf")
    return ok("podman", f"{client.path} {version}, which reads {connections}")


def client_files_check(name: str, facts: DirectoryFacts, finding: str) -> Check:
    """Judge the directory in which a client keeps its files. `machine init` has to write there to register machines.

    If the directory is writable, the check's text is `finding`. Otherwise, machines work without being registered.
    """
    if problem := unwritable(facts):
        finding = f"machines are not registered with these clients: {problem}"
        return warning(name, finding, f'{make_writable(facts)}, or use: eval "$(machine env NAME)"')
    return ok(name, finding)
