"""List and check the names of the machines on this host, and list those of their snapshots."""

from __future__ import annotations

import os
from collections.abc import Sequence

from machine.errors import NotFoundError
from machine.model.names import DEFAULT_MACHINE, similar_words
from machine.store.paths import MachinePaths, Roots

NO_MACHINES = "there are no machines; make one with: machine init"
"""The hint for a command that needs a machine, if none exists."""

_FEW = 6
"""So many names fit into the line of an error."""


def machine_names(roots: Roots) -> list[str]:
    """Return the sorted names of all machines. Incomplete machines, whose names begin with a dot, are left out."""
    try:
        entries = list(roots.machines.iterdir())
    except FileNotFoundError:
        return []
    return sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())


def snapshot_names(machine: MachinePaths) -> list[str]:
    """Return the sorted names of a machine's snapshots."""
    try:
        entries = os.listdir(machine.snapshots)  # noqa: PTH208  (only the names)
    except FileNotFoundError:
        return []
    return sorted(entry for entry in entries if not entry.startswith("."))


def check_exists(roots: Roots, name: str) -> None:
    """Check that the machine `name` exists, even if its record is damaged.

    Raises:
        NotFoundError: no machine has that name. The hint suggests names of other machines.
    """
    if not exists(roots, name):
        raise NotFoundError(f"{name}: VM does not exist", hint=_suggest(name, machine_names(roots)))


def exists(roots: Roots, name: str) -> bool:
    """Return whether the machine `name` exists, even if its record is damaged."""
    if not name or "/" in name or name.startswith(".") or not roots.machine(name).directory.is_dir():
        return False
    # Where the file system ignores case, as on most Macs, `BOX` also opens the directory of the machine `box`.
    return name in os.listdir(roots.machines)  # noqa: PTH208  (only the names)


def _suggest(name: str, names: Sequence[str]) -> str:
    """Return a hint that leads to a machine that exists: those with similar names, or else all if they are few."""
    if not names:
        return NO_MACHINES
    if near := similar_words(name, names):
        return f"did you mean {' or '.join(near)}?"
    if len(names) > _FEW:
        return "see: machine ls"
    if name == DEFAULT_MACHINE:
        return f"add the name of a machine that exists: {', '.join(names)}"
    return f"the machines are: {', '.join(names)}" if len(names) > 1 else f"the only machine is {names[0]}"
