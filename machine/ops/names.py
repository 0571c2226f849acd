"""The names of this host's machines, for the shell's completion."""

from __future__ import annotations

from machine.ops.context import Context
from machine.store import records


def all_names(context: Context) -> list[str]:
    return records.machine_names(context.roots)
