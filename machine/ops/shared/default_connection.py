"""Which machine Podman's clients reach without options."""

from __future__ import annotations

from machine.ops.shared.client_registration import ClientRegistration
from machine.ops.shared.context import Context
from machine.store import drafts, records


def is_default(name: str, context: Context) -> bool:
    """Raises:
    NotFoundError: there is no such machine.
    MachineError: Podman's connections cannot be read.
    """
    return ClientRegistration(context).is_default(records.load(context.roots, name).config)


def make_default(name: str, context: Context) -> None:
    """Lead clients to the machine, to root's containers or the user's as it prefers.

    Raises:
        NotFoundError: there is no such machine.
        MachineError: a file of Podman's cannot be read or written.
    """
    with drafts.names_lock(context.roots):
        ClientRegistration(context).make_default(records.load(context.roots, name).config)
