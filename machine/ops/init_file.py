"""Read the file of `machine init -f`, which is TOML. Its keys are the flags of init."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from machine.errors import BadInputError, MachineError, reason_of
from machine.ignition.user_config import read_text
from machine.model.image import ImageOptions
from machine.model.names import did_you_mean
from machine.ops.init_first_boot import FirstBootRequest
from machine.ops.init_request import KEYS, InitRequest, Part

STDIN = "-"

_HINT = "the keys are the flags of init; see: machine init --help"


def load(path: str) -> InitRequest:
    """Read the file, and the files that are named in it, into a request. The path `-` stands for standard input.

    Raises:
        BadInputError: one of these files cannot be read, or something in it is invalid.
        MachineError: one of these files is a Butane file, but butane is not installed.
    """
    shown_path = "standard input" if path == STDIN else path
    try:
        text = sys.stdin.read() if path == STDIN and sys.stdin else read_text(Path(path))
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"{shown_path} is not TOML: {reason_of(error)}") from error
    return _request(document, shown_path, Path() if path == STDIN else Path(path).parent)


def _request(document: Mapping[str, object], shown_path: str, base: Path) -> InitRequest:
    """Return the request that the parsed file contains.

    Errors call the file `shown_path`. Relative paths in the file start at the directory `base`.
    """
    values: dict[Part, dict[str, Any]] = {part: {} for part in Part}
    seen = set()
    for name, value in document.items():
        key = name.replace("-", "_")
        if key in seen:
            raise BadInputError(f'{shown_path}: "{key}" is given twice')
        seen.add(key)
        if key not in KEYS:
            near = did_you_mean(key, list(KEYS))
            raise BadInputError(f'{shown_path}: unknown key "{name}"{near}', hint=None if near else _HINT)
        values[KEYS[key].part][KEYS[key].field] = _read(name, value, shown_path, base)
    return InitRequest(
        **values[Part.MACHINE],
        image_options=ImageOptions(**values[Part.IMAGE]),
        first_boot=FirstBootRequest(**values[Part.FIRST_BOOT]),
    )


def _read(name: str, value: object, shown_path: str, base: Path) -> object:
    """Read the value of one key. Errors name the file and the key."""
    if _has_nul(value):
        raise BadInputError(f'{shown_path}: "{name}" contains a NUL character')
    try:
        return KEYS[name.replace("-", "_")].read(value, base)
    except ValueError as error:
        raise BadInputError(f'{shown_path}: "{name}" {error}') from error
    except MachineError as error:
        raise type(error)(f"{shown_path}: {error.message}", details=error.details, hint=error.hint) from error


def _has_nul(value: object) -> bool:
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
