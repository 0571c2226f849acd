"""Register machines with Podman and Docker clients."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from machine.errors import BadInputError, MachineError, NotWritableError, Page, ProgramError
from machine.model.config import MachineConfig
from machine.ops.shared.context import Context
from machine.podman import docker_context
from machine.podman.conf_files import find_files, have_connections
from machine.podman.connections import (
    Connection,
    ConnectionsFile,
    connection_uri,
    connections_file,
)
from machine.podman.legacy_connections import LegacyClient
from machine.report import Reporter
from machine.store import records
from machine.store.paths import MachinePaths


class ClientRegistration:
    """Registers machines with clients. New and old Podman clients get connections, and Docker clients get contexts."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._file = ConnectionsFile(connections_file(context.environment, context.home))
        self._legacy = LegacyClient.find(has_connections=_may_have_connections(context))
        self._docker = docker_context.docker_config(context.environment, context.home)

    def check_free(self, name: str) -> None:
        """Check that the two names of the machine's connections, NAME and NAME-root, are unused.

        Raises:
            BadInputError: a Podman client has a connection with one of these names.
        """
        taken = {**self._file.uris(), **(self._legacy.uris if self._legacy else {})}
        for connection in (name, f"{name}-root"):
            if connection in taken:
                raise BadInputError(
                    f'system connection "{connection}" already exists. consider a different machine name or remove the '
                    "connection with `podman system connection rm`",
                    page=Page.CONNECTION_EXISTS,
                )

    def register(self, config: MachineConfig, report: Reporter) -> None:
        """Register the machine with every client that does not have it yet.

        If this user may not write a client's file, as in a read-only home directory, a notice says so.

        Raises:
            MachineError: a file of Podman's or Docker's cannot be read, or the disk is full.
        """
        connections = connections_of(config.name, self._paths(config.name), rootful=config.rootful)
        if not config.has_root_socket:
            connections = tuple(one for one in connections if one.name != config.root_connection)
        with _unless_unwritable(config.name, report):
            # A connection of this name that points elsewhere is the user's own.
            existing = self._file.uris()
            if missing := tuple(connection for connection in connections if connection.name not in existing):
                self._file.add(missing)
        if self._legacy:
            with _unless_unwritable(config.name, report):
                self._legacy.add(connections)
        with _unless_unwritable(config.name, report):
            self._register_context(config, report)

    def _register_context(self, config: MachineConfig, report: Reporter) -> None:
        socket = self._paths(config.name).api_socket(rootful=config.rootful)
        if config.name == docker_context.RESERVED:
            report.notice(
                f'Docker has a context "{config.name}" of its own, so set DOCKER_HOST with: machine env {config.name}'
            )
        elif not docker_context.exists(self._docker, config.name):
            docker_context.create(self._docker, config.name, socket)
        elif not docker_context.points_to(self._docker, config.name, socket):
            report.notice(
                f'The Docker context "{config.name}" is unchanged, because it existed already and points elsewhere'
            )

    def unregister(self, name: str, report: Reporter) -> None:
        """Remove every connection and context that points to the machine's sockets.

        If a client's file cannot be changed, a notice says so, and the machine is removed nevertheless.
        """
        paths = self._paths(name)
        connections = connections_of(name, paths, rootful=False)
        rootful = {record.name for record in records.load_readable(self._context.roots) if record.config.rootful}
        steps = [
            partial(self._file.remove, connections, rootful=rootful),
            *([partial(self._legacy.remove, connections, rootful=rootful)] if self._legacy else []),
            *(partial(docker_context.remove, self._docker, name, socket) for socket in sockets_of(paths)),
        ]
        for step in steps:
            try:
                step()
            except MachineError as error:
                report.notice(f'"{name}" could not be removed from every client: {error.line}')

    def check_readable(self) -> None:
        """Check that the file of Podman's connections can be read.

        Raises:
            MachineError: the file cannot be read, or is damaged.
        """
        self._file.default()

    def prefer(self, config: MachineConfig, report: Reporter) -> None:
        """Point the clients that use the machine by default to the machine's preferred socket.

        If this user may not write a client's file, a notice says so.

        Raises:
            MachineError: a file of Podman's or Docker's cannot be read, or the disk is full.
        """
        for client in (self._file, self._legacy):
            if client:
                with _unless_unwritable(config.name, report):
                    client.move_default(config.connections, config.connections[0])
        paths = self._paths(config.name)
        if any(docker_context.points_to(self._docker, config.name, socket) for socket in sockets_of(paths)):
            with _unless_unwritable(config.name, report):
                docker_context.create(self._docker, config.name, paths.api_socket(rootful=config.rootful))

    def is_default(self, config: MachineConfig) -> bool:
        """Return whether every Podman client uses the machine's preferred socket by default.

        Raises:
            MachineError: Podman's connections cannot be read.
        """
        return all(client.default() == config.connections[0] for client in (self._file, self._legacy) if client)

    def make_default(self, config: MachineConfig) -> None:
        """Make every Podman client use the machine's preferred socket by default.

        Raises:
            MachineError: a file of Podman's cannot be read or written.
        """
        for client in (self._file, self._legacy):
            if client:
                client.make_default(config.connections[0])

    def rename(
        self, old: str, old_paths: MachinePaths, config: MachineConfig, paths: MachinePaths, report: Reporter
    ) -> None:
        """Replace the machine's old name and sockets in the connections and contexts by the new ones.

        If this user may not write a client's file, a notice says so.

        Raises:
            MachineError: a file of Podman's or Docker's cannot be read, or the disk is full.
        """
        before = connections_of(old, old_paths, rootful=config.rootful)
        pairs = tuple(zip(before, connections_of(config.name, paths, rootful=config.rootful), strict=True))
        for client in (self._file, self._legacy):
            if client:
                with _unless_unwritable(config.name, report):
                    client.replace(pairs)
        if any(docker_context.points_to(self._docker, old, socket) for socket in sockets_of(old_paths)):
            with _unless_unwritable(config.name, report):
                docker_context.rename(self._docker, old, config.name, paths.api_socket(rootful=config.rootful))

    def _paths(self, name: str) -> MachinePaths:
        return self._context.roots.machine(name)


def _may_have_connections(context: Context) -> bool:
    """Return whether an old Podman may have connections. If its settings cannot be found, it has to be asked."""
    try:
        return have_connections(find_files(context.environment, context.home))
    except BadInputError:
        return True


@contextlib.contextmanager
def _unless_unwritable(name: str, report: Reporter) -> Iterator[None]:
    """If the block fails because this user may not write a client's file, report a notice instead of the error.

    The machine works even if it is not registered. An old Podman writes its files itself, and does not say why a write
    has failed. Thus every error of an old Podman becomes a notice.
    """
    try:
        yield
    except (NotWritableError, ProgramError) as error:
        report.notice(
            f'"{name}" could not be registered with every client: {error.line}; '
            f'to use it, run: eval "$(machine env {name})"'
        )


def connections_of(name: str, paths: MachinePaths, *, rootful: bool) -> tuple[Connection, ...]:
    """Return the machine's two Podman connections, the preferred one first.

    The connections lead to Unix sockets, not to ssh:// URLs. Thus clients need no SSH handshake, and `podman compose`
    works.
    """
    pair = (
        Connection(name=name, uri=connection_uri(paths.podman_socket)),
        Connection(name=f"{name}-root", uri=connection_uri(paths.podman_root_socket)),
    )
    return pair[::-1] if rootful else pair


def sockets_of(paths: MachinePaths) -> tuple[Path, Path]:
    return paths.podman_socket, paths.podman_root_socket
