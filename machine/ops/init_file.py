"""`machine init -f`: a TOML file with the same options as init's flags."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from machine.errors import BadInputError, MachineError
from machine.ignition.user_config import read_text
from machine.model.image import ImageOptions
from machine.model.names import did_you_mean
from machine.ops.init_first_boot import FirstBootRequest
from machine.ops.init_request import KEYS, InitRequest, Part

STDIN = "-"

_HINT = "the keys are the flags of init; see: machine init --help"


def load(path: str) -> InitRequest:
    """Read what the file asks for, and what it names; `-` is standard input.

    Raises:
        BadInputError: it cannot be read, or something in it is invalid.
        MachineError: it names a Butane file, but butane is not installed.
    """
    called = "standard input" if path == STDIN else path
    try:
        text = sys.stdin.read() if path == STDIN and sys.stdin else read_text(Path(path))
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"{called} is not TOML: {error}") from error
    return _request(document, called, Path() if path == STDIN else Path(path).parent)


def _request(document: Mapping[str, object], called: str, base: Path) -> InitRequest:
    """Make a request of the whole file; `called` is its name in messages, `base` the directory of relative paths."""
    values: dict[Part, dict[str, Any]] = {part: {} for part in Part}
    seen = set()
    for written, value in document.items():
        key = written.replace("-", "_")
        if key in seen:
            raise BadInputError(f'{called}: "{key}" is given twice')
        seen.add(key)
        if key not in KEYS:
            near = did_you_mean(key, list(KEYS))
            raise BadInputError(f'{called}: unknown key "{written}"{near}', hint=None if near else _HINT)
        values[KEYS[key].part][KEYS[key].field] = _read(written, value, called, base)
    return InitRequest(
        **values[Part.MACHINE],
        image_options=ImageOptions(**values[Part.IMAGE]),
        first_boot=FirstBootRequest(**values[Part.FIRST_BOOT]),
    )


def _read(written: str, value: object, called: str, base: Path) -> object:
    """Read the value of one key, and name the file and the key where it is invalid."""
    if _has_zero(value):
        raise BadInputError(f'{called}: "{written}" contains a NUL character')
    try:
        return KEYS[written.replace("-", "_")].read(value, base)
    except ValueError as error:
        raise BadInputError(f'{called}: "{written}" must be {error}') from error
    except MachineError as error:
        raise type(error)(f"{called}: {error.message}", details=error.details, hint=error.hint) from error


def _has_zero(value: object) -> bool:
    waiting = [value]
    while waiting:
        match waiting.pop():
            case str() as text if "\0" in text:
                return True
            case list() as entries:
                waiting += entries
            case dict() as table:
                waiting += [*table, *table.values()]
            case _:
                pass
    return False
