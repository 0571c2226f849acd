"""Find out which machine Podman's clients on this host use by default."""

from __future__ import annotations

from typing import TYPE_CHECKING

from machine.model.config import MachineConfig
from machine.model.dataclass import dataclass
from machine.ops.shared.context import Context
from machine.podman.conf_files import find_files, have_connections
from machine.podman.connections import Connection, ConnectionsFile, connection_uri, connections_file
from machine.store.paths import MachinePaths

if TYPE_CHECKING:
    from machine.podman.legacy_connections import Client


@dataclass(frozen=True, kw_only=True)
class DefaultConnections:
    """The default connections of Podman's new and old clients. If a client has no default, its connection is None."""

    found: tuple[Connection | None, ...]

    def lead_to(self, config: MachineConfig, paths: MachinePaths) -> bool:
        """Return whether all default connections are this machine's, by their names and their sockets."""
        uris = {connection_uri(socket) for socket in (paths.podman_socket, paths.podman_root_socket)}
        return all(
            default is not None and default.name in config.connections and default.uri in uris for default in self.found
        )


def default_connections(context: Context) -> DefaultConnections:
    """Find the default connections of Podman's clients.

    An old client is asked only if it may have connections.

    Raises:
        MachineError: Podman's connections cannot be read.
    """
    found = [ConnectionsFile(connections_file(context.environment, context.home)).default_connection()]
    if have_connections(files := find_files(context.environment, context.home)):
        from machine.podman.legacy_default import legacy_default  # not for `machine ls` of others

        if old := legacy_default(files, context.roots.podman_default):
            found.append(old.connection)
    return DefaultConnections(found=tuple(found))


def default_connection_of(client: Client, context: Context) -> Connection | None:
    """Return the default connection of a Podman client, or None if it has none.

    Raises:
        MachineError: the client's connections cannot be read.
    """
    if not client.is_legacy:
        return ConnectionsFile(connections_file(context.environment, context.home)).default_connection()
    if not have_connections(find_files(context.environment, context.home)):
        return None
    from machine.podman.legacy_connections import LegacyClient

    return LegacyClient(client.program, None).default_connection()
