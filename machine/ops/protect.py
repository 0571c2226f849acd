"""`machine protect` and `unprotect`: choose whether a machine may be removed."""

from __future__ import annotations

from dataclasses import replace

from machine.ops.shared.context import Context
from machine.store import records


def protect(name: str, context: Context, *, protected: bool) -> None:
    """Protect the machine from removal, or end its protection. The machine may be running meanwhile.

    Raises:
        NotFoundError: there is no such machine.
    """
    records.load(context.roots, name)
    records.edit(
        context.roots.machine(name), lambda record: replace(record, config=replace(record.config, protected=protected))
    )
