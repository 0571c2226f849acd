"""Which machines there are."""

from __future__ import annotations

from collections.abc import Sequence

from machine.errors import NotFoundError
from machine.model.names import DEFAULT_MACHINE, similar_words
from machine.store.paths import Roots


def machine_names(roots: Roots) -> list[str]:
    """Return the names of all machines on this host, sorted; half-made ones have names that begin with a dot."""
    try:
        entries = list(roots.machines.iterdir())
    except FileNotFoundError:
        return []
    return sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())


def check_exists(roots: Roots, name: str) -> None:
    """Check that there is a machine `name`, whatever its record is like.

    Raises:
        NotFoundError: there is none; the hint names the machines that may have been meant.
    """
    if not name or "/" in name or name.startswith(".") or not roots.machine(name).directory.is_dir():
        raise NotFoundError(f"{name}: VM does not exist", hint=_meant_instead(name, machine_names(roots)))


def _meant_instead(name: str, known: Sequence[str]) -> str | None:
    """What to type instead: any machine's name where none was given, a similar one where it was mistyped."""
    if name == DEFAULT_MACHINE and known:
        return f"add the name of a machine that exists: {', '.join(known)}"
    near = similar_words(name, known)
    return f"did you mean {' or '.join(near)}?" if near else None
