"""Find the socket on this host at which a machine's Podman answers."""

from __future__ import annotations

from pathlib import Path

from machine.errors import BadInputError
from machine.ops.shared.context import Context
from machine.podman.connections import connection_uri
from machine.store import records


def api_socket(name: str, context: Context, *, rootful: bool | None = None) -> Path:
    """Return the path of an API socket of the machine on this host.

    If `rootful` is True, this is root's socket. If False, this is the socket of the guest's user. If None, this is the
    machine's preferred socket.

    Raises:
        NotFoundError: there is no such machine.
        BadInputError: the machine has no such socket.
    """
    config = records.load(context.roots, name).config
    wanted = config.rootful if rootful is None else rootful
    if wanted and not config.has_root_socket:
        raise BadInputError(f'{config.username} cannot become root on the host of "{name}", so root has no socket')
    return context.roots.machine(name).api_socket(rootful=wanted)


def socket_url(name: str, context: Context, *, rootful: bool | None = None) -> str:
    """Return the URL of the socket that `api_socket` returns for the same arguments.

    Raises:
        NotFoundError: there is no such machine.
    """
    return connection_uri(api_socket(name, context, rootful=rootful))
