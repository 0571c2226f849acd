"""Find the socket on this host at which a machine's Podman answers."""

from __future__ import annotations

from pathlib import Path

from machine.ops.shared.context import Context
from machine.podman.connections import connection_uri
from machine.store import records


def api_socket(name: str, context: Context, *, rootful: bool | None = None) -> Path:
    """Return the machine's API socket on this host. If `rootful` is None, the machine's preferred socket is chosen.

    Raises:
        NotFoundError: there is no such machine.
    """
    config = records.load(context.roots, name).config
    wanted = config.rootful if rootful is None else rootful
    return context.roots.machine(name).api_socket(rootful=wanted)


def socket_url(name: str, context: Context, *, rootful: bool | None = None) -> str:
    """Return the URL of the socket that `api_socket` returns.

    Raises:
        NotFoundError: there is no such machine.
    """
    return connection_uri(api_socket(name, context, rootful=rootful))
