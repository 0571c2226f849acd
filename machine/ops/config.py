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
    """Return every setting with its value and the source of the value.

    Raises:
        BadInputError: a file or an environment variable has an invalid value.
    """
    return list(effective(context).values())


def get(key: str, context: Context) -> EffectiveSetting:
    """Return one setting with its value and the source of the value.

    Raises:
        BadInputError: there is no such setting, or a file or an environment variable has an invalid value.
    """
    check_key(key)
    return effective(context)[key]


def set_value(key: str, words: Sequence[str], context: Context) -> None:
    """Set a default in config.toml.

    Raises:
        BadInputError: there is no such setting, the value is not valid for the setting, or config.toml is damaged.
        DiskError: the file cannot be written.
    """
    value = parse_words(key, words)
    check_values({key: check_value(key, value)}, context)
    settings.change(context.roots, lambda text: settings.with_value(text, key, value))


def unset(key: str, context: Context) -> None:
    """Remove a default from config.toml, if the file has it.

    Raises:
        BadInputError: there is no such setting, or the file is damaged.
        DiskError: the file cannot be written.
    """
    settings.change(context.roots, lambda text: settings.without(text, key))


def edit(context: Context, again: Callable[[str], bool]) -> bool:
    """Let the user edit config.toml, and return whether it has changed.

    The user edits a copy of the file. Once the copy is valid, it replaces config.toml. As long as the copy is invalid,
    `again` is called with the error message, and returns whether the user wants to continue editing.

    Raises:
        MachineError: the copy is invalid, or cannot replace config.toml. The error says where the copy is kept.
    """
    path = context.roots.settings
    before = settings.read(path)
    start = settings.sample(built_in(context.host)).encode() if before is None else before
    draft = settings.make_draft(context.roots, start)
    try:
        while True:
            try:
                _run_editor(draft, context)
                edited = settings.read(draft)
                if edited is None or edited == start:
                    return False
                check_values(settings.parse(edited, path), context, source=path)
                settings.replace(context.roots, edited, before=before)
            except MachineError as error:
                if settings.read(draft) in (None, start):
                    raise
                kept = MachineError(error.line, hint=f"nothing was changed; your edits are kept in {draft}")
                if not again(kept.line):
                    raise kept from error
                if isinstance(error, settings.ChangedError):
                    before = settings.read(path)  # the user knows of the other change now and may overwrite it
            else:
                draft.unlink()
                return True
    finally:
        # Keep the user's edits, even after ^C.
        if settings.read(draft) == start:
            draft.unlink()


def _run_editor(draft: Path, context: Context) -> None:
    environment = context.environment
    chosen = next((name for name in ("VISUAL", "EDITOR") if environment.get(name, "").strip()), None)
    command = environment[chosen] if chosen else _EDITOR
    try:
        argv = shlex.split(command)
    except ValueError as error:
        raise BadInputError(f"{chosen}={command} is not a valid command: {error}") from error
    status = runner.interact([*argv, draft])
    if status != 0:
        raise MachineError(f"{argv[0]} ended with exit status {status}")
