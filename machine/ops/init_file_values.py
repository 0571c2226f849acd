"""Read the values in the file of `machine init -f`.

Each reader takes a TOML value and the directory at which relative paths start, and returns a value for an
InitRequest. If the value is invalid, the reader raises a ValueError that says what the value must be. If the value
names a file and the file is invalid, the reader raises a MachineError.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from machine.ignition.user_config import check
from machine.image.reference import FileReference, parse_reference
from machine.model.config import Provisioning, Script, UserIgnition
from machine.model.first_boot import USER_PREFIX, is_ssh_key
from machine.model.folders import without_variables
from machine.model.settings import check_value
from machine.ops.init_first_boot import read_ignition, read_playbook, read_script

Reader = Callable[[object, Path], object]


def setting(key: str) -> Reader:
    """Return a reader for the setting `key`, which has the same name and rules in config.toml."""
    return lambda value, _: check_value(key, value)


def string(value: object, _: Path) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a string in quotes")
    return value


def string_or_none(value: object, base: Path) -> str | None:
    """Read a string. An empty string means None."""
    return string(value, base) or None


def path(value: object, base: Path) -> str:
    """Read the path of a file. A relative path starts at the TOML file's directory."""
    return os.fspath((base / Path(string(value, base)).expanduser()).absolute())


def switch(value: object, _: Path) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def whole_number(value: object, _: Path) -> int:
    # In Python, a boolean is a number, too.
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("must be a whole number")
    return value


def strings(value: object, _: Path) -> tuple[str, ...]:
    """Read a list of strings, or a single string."""
    entries = value if isinstance(value, list) else [value]
    if not all(isinstance(entry, str) for entry in entries):
        raise ValueError('must be a list of strings like ["a", "b"]')
    return tuple(entries)


def table(value: object, _: Path) -> tuple[str, ...]:
    """Read a table, and return its entries as `NAME=VALUE`, the form in which the flag takes them."""
    if (
        not isinstance(value, dict)
        or not all(isinstance(entry, str) for entry in value.values())
        or any("=" in name for name in value)
    ):
        raise ValueError('must be a table of strings like {NAME = "value"}')
    return tuple(f"{name}={entry}" for name, entry in value.items())


def image(value: object, base: Path) -> str:
    named = str(check_value("image", value))
    reference = parse_reference(named)
    if isinstance(reference, FileReference) and not reference.path.is_absolute():
        return os.fspath((base / reference.path).absolute())
    return named


def provisioning(value: object, _: Path) -> Provisioning:
    try:
        return Provisioning(str(value))
    except ValueError as error:
        choices = " or ".join(f'"{choice}"' for choice in Provisioning)
        raise ValueError(f"must be {choices}") from error


def volumes(value: object, base: Path) -> tuple[str, ...]:
    """Read volumes. A relative source path starts at the TOML file's directory, unless it begins with a variable."""
    directory = Path(without_variables(os.fspath(base.absolute())))
    return tuple(
        os.fspath(directory / volume) if volume[:1] not in ("", "/", "$", ":") else volume
        for volume in strings(value, base)
    )


def ssh_keys(value: object, base: Path) -> tuple[str, ...]:
    """Read public keys, each given as the key itself or as the path of a file that contains keys."""
    keys = [text.strip() for text in strings(value, base)]
    return tuple(key if not key or is_ssh_key(key) else os.fspath(base / key) for key in keys)


def ignition(value: object, base: Path) -> UserIgnition | None:
    if isinstance(value, str):
        return read_ignition(base / value) if value else None
    name, text, _ = _included_file(value, others=())
    check(text, name)
    return UserIgnition(name=name, text=text)


def playbook(value: object, base: Path) -> Script | None:
    if isinstance(value, str):
        return read_playbook(base / value) if value else None
    name, text, _ = _included_file(value, others=())
    return Script(name=name, text=text, as_user=True)


def scripts(value: object, base: Path) -> tuple[Script, ...]:
    """Read a list of scripts, or a single script."""
    return tuple(_script(entry, base) for entry in (value if isinstance(value, list) else [value]))


def _script(value: object, base: Path) -> Script:
    if isinstance(value, str):
        prefix = USER_PREFIX if value.startswith(USER_PREFIX) else ""
        path = value.removeprefix(prefix)
        return read_script(f"{prefix}{path and base / path}")
    name, text, user = _included_file(value, others=("user",))
    return Script(name=name, text=text, as_user=user)


def _included_file(value: object, *, others: tuple[str, ...]) -> tuple[str, str, bool]:
    """Read a table that stands for a file. Return the file's name, its text, and whether the guest's user runs it.

    `others` are the keys that the table may have besides `name` and `text`.
    """
    example = ", user = true" if others else ""
    problem = f'must be the path of a file, or a table like {{name = "a", text = "…"{example}}}'
    if not isinstance(value, dict) or not {"name", "text"} <= value.keys() <= {"name", "text", *others}:
        raise ValueError(problem)
    name, text, user = value["name"], value["text"], value.get("user", False)
    if (
        not isinstance(name, str)
        or not isinstance(text, str)
        or not isinstance(user, bool)
        or not name
        or Path(name).name != name
    ):
        raise ValueError(problem)
    return name, text, user
