"""Write YAML. Only nested mappings and simple values are supported, because `machine info` needs nothing else."""

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


def _scalar(value: object) -> str:
    """Format a value. A text that YAML would not read as a text is written as a JSON string, which is valid YAML."""
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _OTHER_MEANING:
        return str(value)
    return escape_surrogates(json.dumps(value, ensure_ascii=False))
