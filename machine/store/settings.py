"""The user's own defaults: `config.toml` in the configuration directory. No file is as good as an empty one."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields

from machine.errors import BadInputError
from machine.store.paths import Roots


@dataclass(frozen=True, kw_only=True)
class Settings:
    """`stream_base_url` is where Fedora CoreOS's stream metadata is fetched from; empty for Fedora's own."""

    stream_base_url: str = ""


def load_settings(roots: Roots) -> Settings:
    """The settings.

    Raises:
        BadInputError: the file cannot be read, or says something that means nothing.
    """
    path = roots.settings
    try:
        document = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return Settings()
    except OSError as error:
        raise BadInputError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise BadInputError(f"{path} is not TOML: {error}") from error
    return Settings(**{key: _checked(key, value, str(path)) for key, value in document.items()})


def _checked(key: str, value: object, path: str) -> str:
    known = [field.name for field in fields(Settings)]
    if key not in known:
        raise BadInputError(f'{path}: unknown setting "{key}"', hint=f"it may hold: {', '.join(known)}")
    if not isinstance(value, str):
        raise BadInputError(f'{path}: "{key}" must be a text in quotes')
    return value
