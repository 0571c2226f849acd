"""Read and edit the user's settings in `config.toml` of the configuration directory.

A missing file counts as empty.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from machine import lock
from machine.errors import BadInputError, reason_of
from machine.files import FILE_PRIVATE, disk_errors, make_directory, write_atomic
from machine.model.host import Host
from machine.model.settings import (
    RULES,
    Layer,
    Settings,
    Value,
    built_in,
    check_key,
    check_value,
    merge,
    patience_from_environment,
    settings_of,
)
from machine.store.paths import Roots

_LOCK_S = 10.0

_CORRECT = "correct it with: machine config edit"

Edit = Callable[[str], str]
"""A function that takes the file's old text and returns the new one."""


class ChangedError(BadInputError):
    """Another command has changed the file since it was read."""


def load_settings(roots: Roots, host: Host) -> Settings:
    """Load the settings. A setting that the file lacks has its built-in default.

    Raises:
        BadInputError: the file cannot be read, or a setting in it is unknown or invalid.
    """
    return settings_of(merge(built_in(host), [load_layer(roots)]))


def load_patience(roots: Roots, host: Host, environment: Mapping[str, str]) -> int:
    """Return the factor by which the deadlines of a start and a stop are longer than usual.

    Raises:
        BadInputError: the value of $MACHINE_PATIENCE is not valid; or it is not set, and the file is damaged.
    """
    return patience_from_environment(environment) or load_settings(roots, host).patience


def load_layer(roots: Roots) -> Layer:
    """Load the settings in config.toml, without the built-in defaults.

    Raises:
        BadInputError: the file cannot be read, or a setting in it is unknown or invalid.
    """
    path = roots.settings
    content = read(path) or b""
    try:
        values = parse(content, path)
    except BadInputError as error:
        raise BadInputError(error.message, hint=error.hint or _CORRECT) from error
    return Layer(origin=f"config.toml: {path}", values=values)


def read(path: Path) -> bytes | None:
    """Return the file's content, or None if the file does not exist.

    Raises:
        BadInputError: the file cannot be read.
    """
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise BadInputError(f"cannot read {path}: {reason_of(error)}") from error


def parse(content: bytes, path: Path) -> dict[str, Value]:
    """Parse and check the content of the file `path`, which is only named in error messages.

    Raises:
        BadInputError: the content is not TOML, or a setting in it is unknown or invalid.
    """
    document = _document(content, path)
    try:
        return {key: check_value(key, value) for key, value in document.items()}
    except BadInputError as error:
        raise BadInputError(f"{path}: {error.message}", hint=error.hint) from error


def _document(content: bytes, path: Path) -> dict[str, Any]:
    if not content:
        return {}
    import tomllib  # not needed without a file

    try:
        return tomllib.loads(content.decode())
    except ValueError as error:
        raise BadInputError(f"{path} is not TOML: {reason_of(error)}") from error


# Changes


def with_value(text: str, key: str, value: object) -> str:
    """Return the text with the setting `key` changed or added. Comments and order are kept."""
    import tomlkit

    document = tomlkit.parse(text)
    document[key] = value
    return tomlkit.dumps(document)


def without(text: str, key: str) -> str:
    """Return the text without the setting `key`, which the text need not have.

    Raises:
        BadInputError: `key` is neither in the text nor the name of a setting.
    """
    import tomlkit

    document = tomlkit.parse(text)
    if key not in document:
        check_key(key)
        return text
    del document[key]
    return tomlkit.dumps(document)


def sample(defaults: Settings) -> str:
    """Return the content of a file that sets nothing and describes all settings in comments."""
    import tomlkit

    lines = ["# Defaults of `machine init`; flags override them. To show the current values: machine config get"]
    for key, rule in RULES.items():
        value = getattr(defaults, key)
        literal = tomlkit.item(list(value) if rule.repeated else value).as_string()
        lines += ["", f"# {rule.meaning}: {rule.expected}.", f"#{key} = {literal}"]
    return "\n".join(lines) + "\n"


def change(roots: Roots, edit: Edit) -> None:
    """Apply `edit` to the file's text.

    Raises:
        BadInputError: the file is not TOML, or a setting in the new text is unknown or invalid.
        DiskError: the file cannot be written.
    """
    path = roots.settings
    with _editing(roots):
        before = read(path) or b""
        try:
            _document(before, path)
        except BadInputError as error:
            raise BadInputError(error.message, hint=_CORRECT) from error
        after = edit(before.decode()).encode()
        parse(after, path)
        if after != before:
            _write(path, after)


def replace(roots: Roots, content: bytes, *, before: bytes | None) -> None:
    """Replace the whole file if its content is still `before`.

    Raises:
        ChangedError: another command has changed the file, so its content is no longer `before`.
        DiskError: the file cannot be written.
    """
    with _editing(roots):
        if read(roots.settings) != before:
            raise ChangedError(f"{roots.settings} was changed by another command in the meantime")
        _write(roots.settings, content)


def make_draft(roots: Roots, content: bytes) -> Path:
    """Write `content` to a temporary file beside config.toml, for an editor, and return the file's path."""
    with disk_errors(roots.settings):
        make_directory(roots.config)
        import tempfile  # only the commands that change a setting need it, and what it imports

        descriptor, name = tempfile.mkstemp(prefix="config.", suffix=".toml", dir=roots.config)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
    return Path(name)


@contextlib.contextmanager
def _editing(roots: Roots) -> Iterator[None]:
    with disk_errors(roots.settings):
        make_directory(roots.config)
    with lock.exclusively(roots.settings_lock, timeout_s=_LOCK_S):
        yield


def _write(path: Path, content: bytes) -> None:
    # The file may be a symbolic link to the user's dotfiles.
    target = path.resolve()
    mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else FILE_PRIVATE
    write_atomic(target, content, mode=mode)
