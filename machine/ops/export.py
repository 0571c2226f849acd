"""`machine export`: write a file from which `machine init -f` makes another machine like this one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from machine.model.config import MachineConfig, Script, UserIgnition
from machine.ops.init_request import KEYS
from machine.ops.shared.context import Context
from machine.store import records

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_CONTROL = re.compile(r"[\0-\x08\x0b-\x1f\x7f]")


def export(name: str, context: Context) -> str:
    """Return the machine's options in TOML. What has been changed inside its guest is not included.

    Raises:
        NotFoundError: there is no such machine.
        MachineError: the machine's record is damaged.
    """
    return export_text(records.load(context.roots, name).config)


def export_text(config: MachineConfig) -> str:
    """Return the text of a TOML file from which `machine init -f` makes a machine with this config (pure)."""
    plain = [f"# To make another machine like {config.name}: machine init -f FILE NAME"]
    # In TOML, whatever follows a table's heading belongs to that table.
    tables: list[str] = []
    for name, key in KEYS.items():
        match key.write(config):
            case None:
                pass
            case Mapping() as table:
                tables += ["", f"[{name}]", *(f"{_key(entry)} = {_literal(value)}" for entry, value in table.items())]
            case Script() | UserIgnition() as file:
                tables += ["", f"[{name}]", *_file(file)]
            case list() as scripts:
                for script in scripts:
                    tables += ["", f"[[{name}]]", *_file(script), *(["user = true"] if script.as_user else [])]
            case value:
                plain.append(f"{name} = {_literal(value)}")
    return "\n".join([*plain, *tables]) + "\n"


def _file(file: Script | UserIgnition) -> tuple[str, str]:
    return f"name = {_literal(file.name)}", f"text = {_block(file.text)}"


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _literal(name)


def _literal(value: str | int | bool | Sequence[str]) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case str():
            # TOML has JSON's escapes and requires one more.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case _:
            return f"[{', '.join(_literal(entry) for entry in value)}]"


def _block(text: str) -> str:
    """Return a text of several lines as a TOML string.

    The lines are written unchanged between triple quotes if TOML permits that. Otherwise characters are escaped.
    """
    if "'''" in text or text.endswith("'") or _CONTROL.search(text):
        return _literal(text)
    return f"'''\n{text}'''"
