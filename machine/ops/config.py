"""`machine config`: read and change the defaults of new machines."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from machine import runner
from machine.errors import BadInputError, MachineError
from machine.model.settings import EffectiveSetting, built_in, check_key, check_value, parse_words
from machine.ops.shared.context import Context
from machine.ops.shared.defaults import check_values, effective
from machine.store import settings

_EDITOR = "vi"


def all_settings(context: Context) -> list[EffectiveSetting]:
    """Return every setting with its value and where that comes from.

    Raises:
        BadInputError: a file or an environment variable has an invalid value.
    """
    return list(effective(context).values())


def get(key: str, context: Context) -> EffectiveSetting:
    """Raises:
    BadInputError: there is no such setting, or a file or a variable means nothing.
    """
    check_key(key)
    return effective(context)[key]


def set_value(key: str, words: Sequence[str], context: Context) -> None:
    """Set a default of config.toml.

    Raises:
        BadInputError: there is no such setting, it cannot be this, or the file is broken.
        DiskError: the file cannot be written.
    """
    value = parse_words(key, words)
    check_values({key: check_value(key, value)}, context)
    settings.change(context.roots, lambda text: settings.with_value(text, key, value))


def unset(key: str, context: Context) -> None:
    """Take a default out of config.toml, if it is there.

    Raises:
        BadInputError: there is no such setting, or the file is broken.
        DiskError: the file cannot be written.
    """
    settings.change(context.roots, lambda text: settings.without(text, key))


def edit(context: Context, again: Callable[[str], bool]) -> bool:
    """Let a person edit a copy of config.toml, and install it once it means something; returns whether it has changed.

    `again` tells what is wrong and asks whether to go on.

    Raises:
        MachineError: the copy cannot be installed; if anything was typed it is kept, and the error tells where.
    """
    path = context.roots.settings
    before = settings.read(path)
    start = settings.sample(built_in(context.host)).encode() if before is None else before
    draft = settings.make_draft(context.roots, start)
    try:
        while True:
            try:
                _run_editor(draft, context)
                typed = settings.read(draft)
                if typed is None or typed == start:
                    return False
                check_values(settings.parse(typed, path), context, source=path)
                settings.replace(context.roots, typed, before=before)
            except MachineError as error:
                if settings.read(draft) in (None, start):
                    raise
                kept = MachineError(error.line, hint=f"nothing was changed, and what you typed is kept in {draft}")
                if not again(kept.line):
                    raise kept from error
                if isinstance(error, settings.ChangedError):
                    before = settings.read(path)  # told by now, and to be overruled
            else:
                draft.unlink()
                return True
    finally:
        # Also after ^C: what was typed stays.
        if settings.read(draft) == start:
            draft.unlink()


def _run_editor(draft: Path, context: Context) -> None:
    environment = context.environment
    chosen = next((name for name in ("VISUAL", "EDITOR") if environment.get(name, "").strip()), None)
    command = environment[chosen] if chosen else _EDITOR
    try:
        argv = shlex.split(command)
    except ValueError as error:
        raise BadInputError(f"{chosen}={command} is no command: {error}") from error
    status = runner.interact([*argv, draft])
    if status != 0:
        raise MachineError(f"{argv[0]} ended with exit status {status}")
