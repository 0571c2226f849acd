"""The defaults of new machines: what holds and why, and `machine config`."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from machine import runner
from machine.errors import BadInputError, MachineError
from machine.image.reference import FileReference
from machine.model.host import ACCEL_VARIABLE, AcceleratorChoice
from machine.model.settings import (
    BUILT_IN,
    EffectiveSetting,
    Layer,
    Value,
    built_in,
    check_key,
    check_value,
    merge,
    parse_words,
)
from machine.ops.shared.catalogue import known_reference
from machine.ops.shared.context import Context
from machine.ops.shared.timezone import resolve_timezone
from machine.podman.containers_conf import find_files, load_layers
from machine.store import settings

COMMAND_LINE = "command line"
_EDITOR = "vi"


def effective(context: Context, *, flags: dict[str, Value] | None = None) -> dict[str, EffectiveSetting]:
    """What holds for each setting, by its key, and where it comes from.

    The weakest first: what is built in, containers.conf, config.toml, the environment, and `flags`: those that were
    given, by the keys of Settings.

    Raises:
        BadInputError: a file or a variable says something that means nothing.
    """
    own = settings.load_layer(context.roots)
    _check_meaning(own.values, context, context.roots.settings)
    layers = [
        *load_layers(find_files(context.environment, context.home), context.host),
        own,
        _environment_layer(context),
        Layer(origin=COMMAND_LINE, values=flags or {}),
    ]
    return merge(built_in(context.host), layers)


def _environment_layer(context: Context) -> Layer:
    accel = AcceleratorChoice.from_environment(context.environment)
    return Layer(origin=f"environment: {ACCEL_VARIABLE}", values={"accel": accel} if accel else {})


@contextlib.contextmanager
def blaming(setting: EffectiveSetting) -> Iterator[None]:
    """An error of the block tells where the setting comes from, unless it was typed just now."""
    try:
        yield
    except BadInputError as error:
        if setting.origin in (COMMAND_LINE, BUILT_IN):
            raise
        raise BadInputError(error.message, hint=f'"{setting.key}" comes from {setting.origin}') from error


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
    _check_meaning({key: check_value(key, value)}, context)
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
                _check_meaning(settings.parse(typed, path), context, path)
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


def _check_meaning(values: Mapping[str, Value], context: Context, path: Path | None = None) -> None:
    """What the file's own rules cannot know; `path` is named by errors.

    Raises:
        BadInputError: there is no such image or time zone.
    """
    try:
        if "image" in values:
            reference, _ = known_reference(str(values["image"]), context)
            if isinstance(reference, FileReference) and not reference.path.is_absolute():
                raise BadInputError('"image" must not depend on the current directory', hint=f"write {reference}")
        if "timezone" in values:
            resolve_timezone(str(values["timezone"]), context.environment)
    except BadInputError as error:
        raise BadInputError(f"{path}: {error.message}" if path else error.message, hint=error.hint) from error
