"""Find out and change which machine clients use by default."""

from __future__ import annotations

from machine.ops.shared.client_registration import ClientRegistration
from machine.ops.shared.context import Context
from machine.store import drafts, records


def is_default(name: str, context: Context) -> bool:
    """Return whether all Podman clients use the machine by default.

    Raises:
        NotFoundError: there is no such machine.
        MachineError: Podman's connections cannot be read.
    """
    return ClientRegistration(context).is_default(records.load(context.roots, name).config)


def make_default(name: str, context: Context) -> None:
    """Make all Podman clients use the machine by default, through the machine's preferred socket.

    Raises:
        NotFoundError: there is no such machine.
        MachineError: a file of Podman's cannot be read or written.
    """
    with drafts.names_lock(context.roots):
        ClientRegistration(context).make_default(records.load(context.roots, name).config)
