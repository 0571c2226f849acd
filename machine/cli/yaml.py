"""Write YAML, as Podman 5 writes it for `machine info`, or as people write it for Kubernetes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from machine.gotemplate.values import escape_surrogates

_PLAIN = re.compile(r"(?:[A-Za-z_/]|[0-9]+\.[0-9]+\.[0-9])(?:[\w./()+@,;=~-]|:(?=\S)| +(?=[^\s#]))*")
_OTHER_MEANING = frozenset({"false", "n", "no", "null", "off", "on", "true", "y", "yes"})


def yaml_text(document: Mapping[str, object], indent: str = "") -> str:
    """Format a document in block style with lower-case keys, as Podman 5 does (Go's yaml.v3 with structs)."""
    lines: list[str] = []
    for key, value in document.items():
        if isinstance(value, Mapping) and value:
            lines.append(f"{indent}{_scalar(key.lower())}:\n{yaml_text(value, f'{indent}    ')}")
        else:
            lines.append(f"{indent}{_scalar(key.lower())}: {_scalar(value)}\n")
    return "".join(lines)


def manifest_text(document: Mapping[str, object], indent: str = "") -> str:
    """Format a document of mappings, lists of mappings, and simple values. A text of several lines is a block."""
    return "".join(f"{indent}{_scalar(key)}:{_value(value, indent)}" for key, value in document.items())


def _value(value: object, indent: str) -> str:
    deeper = f"{indent}  "
    match value:
        case Mapping() if value:
            return f"\n{manifest_text(value, deeper)}"
        case list() if value:
            return "\n" + "".join(f"{indent}- {manifest_text(entry, deeper).lstrip()}" for entry in value)
        case str() if _fits_block(value):
            return " |\n" + "".join(f"{deeper}{line}\n" if line else "\n" for line in value.split("\n")[:-1])
        case _:
            return f" {_scalar(value)}\n"


def _fits_block(text: str) -> bool:
    """Return whether a block with YAML's indicator | keeps the text as it is."""
    lines = text.split("\n")
    ends_once = len(lines) > 2 and not lines[-1] and lines[-2]
    return bool(ends_once and lines[0][:1].strip() and all(letter.isprintable() or letter in "\n\t" for letter in text))


def _scalar(value: object) -> str:
    """Format a value. A text that YAML would not read as a text is written as a JSON string, which is valid YAML."""
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _OTHER_MEANING:
        return str(value)
    return escape_surrogates(json.dumps(value, ensure_ascii=False))
