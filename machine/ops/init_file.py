"""`machine init -f`: a TOML file with the same options as init's flags."""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Callable, Mapping
from enum import Enum, auto
from pathlib import Path
from typing import Any

from machine.errors import BadInputError, MachineError
from machine.ignition.user_config import check, read_text
from machine.image.reference import FileReference, parse_reference
from machine.model.config import Provisioning, Script, UserIgnition
from machine.model.first_boot import USER_PREFIX, is_ssh_key
from machine.model.folders import without_variables
from machine.model.image import ImageOptions
from machine.model.names import similar
from machine.model.settings import check_value
from machine.ops.init_first_boot import FirstBootRequest, read_ignition, read_playbook, read_script
from machine.ops.init_request import InitRequest

STDIN = "-"

Reader = Callable[[Any, Path], object]
"""Takes a TOML value and the directory for its relative paths. Raises ValueError with what was expected."""


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
    base = Path() if path == STDIN else Path(path).parent
    values: dict[Part, dict[str, Any]] = {part: {} for part in Part}
    seen = set()
    for written, value in document.items():
        key = written.replace("-", "_")
        if key in seen:
            raise BadInputError(f'{called}: "{key}" is given twice')
        seen.add(key)
        if key not in _KEYS:
            near = similar(key, list(_KEYS))
            raise BadInputError(f'{called}: unknown key "{written}"{near}', hint=None if near else _HINT)
        if _has_zero(value):
            raise BadInputError(f'{called}: "{written}" contains a NUL character')
        part, field, read = _KEYS[key]
        try:
            values[part][field] = read(value, base)
        except ValueError as error:
            raise BadInputError(f'{called}: "{written}" must be {error}') from error
        except MachineError as error:
            raise type(error)(f"{called}: {error.message}", details=error.details, hint=error.hint) from error
    return InitRequest(
        **values[Part.MACHINE],
        image_options=ImageOptions(**values[Part.IMAGE]),
        first_boot=FirstBootRequest(**values[Part.FIRST_BOOT]),
    )


_HINT = "the keys are the flags of init; see: machine init --help"


class Part(Enum):
    """Which value of a request a key belongs to."""

    MACHINE = auto()
    IMAGE = auto()
    FIRST_BOOT = auto()


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


# Readers of values


def _setting(key: str) -> Reader:
    """Return the reader of a setting that config.toml has too."""
    return lambda value, _: check_value(key, value)


def _text(value: Any, _: Path) -> str:  # noqa: ANN401
    if not isinstance(value, str):
        raise ValueError("a string in quotes")
    return value


def _text_or_none(value: Any, base: Path) -> str | None:  # noqa: ANN401
    return _text(value, base) or None


def _switch(value: Any, _: Path) -> bool:  # noqa: ANN401
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _size(value: Any, _: Path) -> int:  # noqa: ANN401
    # In Python, true is a number.
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("a whole number")
    return value


def _texts(value: Any, _: Path) -> tuple[str, ...]:  # noqa: ANN401
    """Read a list of strings, or a single string."""
    entries = value if isinstance(value, list) else [value]
    if not all(isinstance(entry, str) for entry in entries):
        raise ValueError('a list of strings like ["a", "b"]')
    return tuple(entries)


def _table(value: Any, _: Path) -> tuple[str, ...]:  # noqa: ANN401
    """Read a table as the flag's `NAME=VALUE`."""
    if (
        not isinstance(value, dict)
        or not all(isinstance(entry, str) for entry in value.values())
        or any("=" in name for name in value)
    ):
        raise ValueError('a table of strings like {NAME = "value"}')
    return tuple(f"{name}={entry}" for name, entry in value.items())


def _image(value: Any, base: Path) -> str:  # noqa: ANN401
    image = str(check_value("image", value))
    reference = parse_reference(image)
    if isinstance(reference, FileReference) and not reference.path.is_absolute():
        return os.fspath((base / reference.path).absolute())
    return image


def _provisioning(value: Any, _: Path) -> Provisioning:  # noqa: ANN401
    try:
        return Provisioning(value)
    except ValueError as error:
        raise ValueError(" or ".join(f'"{choice}"' for choice in Provisioning)) from error


def _volumes(value: Any, base: Path) -> tuple[str, ...]:  # noqa: ANN401
    """Read volumes; relative ones are relative to the file, except those that begin with a variable."""
    texts = _texts(value, base)
    directory = Path(without_variables(os.fspath(base.absolute())))
    return tuple(os.fspath(directory / text) if text[:1] not in ("", "/", "$", ":") else text for text in texts)


def _ssh_keys(value: Any, base: Path) -> tuple[str, ...]:  # noqa: ANN401
    texts = [text.strip() for text in _texts(value, base)]
    return tuple(text if not text or is_ssh_key(text) else os.fspath(base / text) for text in texts)


def _ignition(value: Any, base: Path) -> UserIgnition | None:  # noqa: ANN401
    if isinstance(value, str):
        return read_ignition(base / value) if value else None
    name, text, _ = _whole(value, others=())
    check(text, name)
    return UserIgnition(name=name, text=text)


def _playbook(value: Any, base: Path) -> Script | None:  # noqa: ANN401
    if isinstance(value, str):
        return read_playbook(base / value) if value else None
    name, text, _ = _whole(value, others=())
    return Script(name=name, text=text, as_user=True)


def _scripts(value: Any, base: Path) -> tuple[Script, ...]:  # noqa: ANN401
    return tuple(_script(entry, base) for entry in (value if isinstance(value, list) else [value]))


def _script(value: Any, base: Path) -> Script:  # noqa: ANN401
    if isinstance(value, str):
        prefix = USER_PREFIX if value.startswith(USER_PREFIX) else ""
        path = value.removeprefix(prefix)
        return read_script(f"{prefix}{path and base / path}")
    name, text, user = _whole(value, others=("user",))
    return Script(name=name, text=text, as_user=user)


def _whole(value: Any, *, others: tuple[str, ...]) -> tuple[str, str, bool]:  # noqa: ANN401
    """Read a file that is included as a table: its name, its text, and whether the guest's user runs it."""
    example = ", user = true" if others else ""
    expected = f'the path of a file, or a table like {{name = "a", text = "…"{example}}}'
    if not isinstance(value, dict) or not {"name", "text"} <= value.keys() <= {"name", "text", *others}:
        raise ValueError(expected)
    name, text, user = value["name"], value["text"], value.get("user", False)
    if (
        not isinstance(name, str)
        or not isinstance(text, str)
        or not isinstance(user, bool)
        or not name
        or Path(name).name != name
    ):
        raise ValueError(expected)
    return name, text, user


_KEYS: Mapping[str, tuple[Part, str, Reader]] = {
    "name": (Part.MACHINE, "name", _text),
    "image": (Part.MACHINE, "image", _image),
    "image_sha256": (Part.IMAGE, "sha256", _text_or_none),
    "stream_base_url": (Part.IMAGE, "stream_base_url", _text_or_none),
    "provisioning": (Part.MACHINE, "provisioning", _provisioning),
    "arch": (Part.MACHINE, "arch", _text),
    "accel": (Part.MACHINE, "accelerator", _setting("accel")),
    "cpus": (Part.MACHINE, "cpus", _setting("cpus")),
    "memory": (Part.MACHINE, "memory_mib", _setting("memory")),
    "disk_size": (Part.MACHINE, "disk_gib", _setting("disk_size")),
    "swap": (Part.MACHINE, "swap_mib", _size),
    "username": (Part.MACHINE, "username", _setting("username")),
    "rootful": (Part.MACHINE, "rootful", _setting("rootful")),
    "timezone": (Part.MACHINE, "timezone", _setting("timezone")),
    "hostname": (Part.FIRST_BOOT, "hostname", _text),
    "volume": (Part.MACHINE, "volumes", _volumes),
    "volume_driver": (Part.MACHINE, "volume_driver", _text),
    "mount_inotify": (Part.MACHINE, "mount_inotify", _switch),
    "import_native_ca": (Part.MACHINE, "native_ca", _setting("import_native_ca")),
    "usb": (Part.MACHINE, "usbs", _texts),
    "ssh_authorized_key": (Part.FIRST_BOOT, "ssh_keys", _ssh_keys),
    "ignition_path": (Part.FIRST_BOOT, "ignition", _ignition),
    "ignition_replace": (Part.FIRST_BOOT, "ignition_replaces", _switch),
    "provision": (Part.FIRST_BOOT, "scripts", _scripts),
    "playbook": (Part.FIRST_BOOT, "playbook", _playbook),
    "env": (Part.FIRST_BOOT, "environment", _table),
    "label": (Part.MACHINE, "labels", _table),
}
"""Where each key of the file goes and how its value is read; the keys are init's flags."""
