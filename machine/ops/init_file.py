"""Read the file of `machine init -f`, which is TOML. Its keys are the flags of init."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True, kw_only=True)
class TomlFile:
    """A parsed TOML file. Errors call it `shown_path`, and relative paths in it start at the directory `base`."""

    document: Mapping[str, object]
    shown_path: str
    base: Path


def load(path: str) -> InitRequest:
    """Read the file, and the files that are named in it, into a request. The path `-` stands for standard input.

    Raises:
        BadInputError: one of these files cannot be read, or something in it is invalid.
        MachineError: one of these files is a Butane file, but butane is not installed.
    """
    file = read_toml(path)
    if isinstance(file.document.get("machine"), dict):
        raise BadInputError(
            f"{file.shown_path} describes several machines", hint=f"make them with: machine up -f {path}"
        )
    return request_of(read_keys(file.document, file.shown_path, file.base))


def read_toml(path: str) -> TomlFile:
    """Read and parse a TOML file. The path `-` stands for standard input.

    Raises:
        BadInputError: the file cannot be read or is not TOML.
    """
    shown_path = "standard input" if path == STDIN else path
    try:
        text = sys.stdin.read() if path == STDIN and sys.stdin else read_text(Path(path))
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"{shown_path} is not TOML: {reason_of(error)}") from error
    return TomlFile(document=document, shown_path=shown_path, base=Path() if path == STDIN else Path(path).parent)


def read_keys(table: Mapping[str, object], shown_path: str, base: Path) -> dict[str, object]:
    """Read the values of a table whose keys are the flags of init. Return each value by its key in KEYS.

    Errors call the table `shown_path`. Relative paths in the table start at the directory `base`.

    Raises:
        BadInputError: a key is unknown or given twice, or its value is invalid.
        MachineError: a value names a Butane file, but butane is not installed.
    """
    values: dict[str, object] = {}
    for name, value in table.items():
        key = name.replace("-", "_")
        if key in values:
            raise BadInputError(f'{shown_path}: "{key}" is given twice')
        if key not in KEYS:
            near = did_you_mean(key, list(KEYS))
            raise BadInputError(f'{shown_path}: unknown key "{name}"{near}', hint=None if near else _HINT)
        values[key] = _read(name, value, shown_path, base)
    return values


def request_of(values: Mapping[str, object]) -> InitRequest:
    """Return the request that consists of the values that `read_keys` has read."""
    parts: dict[Part, dict[str, Any]] = {part: {} for part in Part}
    for key, value in values.items():
        parts[KEYS[key].part][KEYS[key].field] = value
    return InitRequest(
        **parts[Part.MACHINE],
        image_options=ImageOptions(**parts[Part.IMAGE]),
        first_boot=FirstBootRequest(**parts[Part.FIRST_BOOT]),
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
