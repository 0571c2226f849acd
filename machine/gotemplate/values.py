"""Represent Go's values in Python, with their type names in Go and their text in Go's formats."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import TypeAlias

from machine.gotemplate.times import RFC3339_NANO, format_time, time_text

_SURROGATE = re.compile("[\ud800-\udfff]")


class TemplateError(Exception):
    """A template cannot be parsed or rendered. The message is Go's."""


class Missing(Enum):
    """What a template gets for a key that is missing in a map."""

    VALUE = "<no value>"


@dataclass(frozen=True, kw_only=True)
class Struct:
    """A struct. `type_name` is the struct's type in Go, with a leading * if the value is a pointer."""

    type_name: str
    fields: Mapping[str, Value]


class StringMap(dict[str, "Value"]):
    """A map from strings to strings. `index` returns an empty string for a key that is missing in it, as in Go."""


class MapHeading(StringMap):
    """The heading of a column that shows maps. The column of one of the maps' keys has that key as its heading."""

    def __init__(self, heading: str) -> None:
        super().__init__()
        self.heading = heading

    def get(self, key: str, default: object = None) -> str:  # noqa: ARG002
        return key.upper()


STRING_MAP = "map[string]string"
"""The name of StringMap's type in Go."""

Value: TypeAlias = (
    "Missing | bool | int | float | str | datetime | Struct | Sequence[Value] | Mapping[str, Value] | None"
)


def structure(document: Mapping[str, object], type_name: str, types: Mapping[str, str] | None = None) -> Struct:
    """Convert a document to nested structs. `types` maps keys to the type names of nested structs and maps."""
    names = types or {}
    return Struct(
        type_name=type_name,
        fields={key: _structured(value, names.get(key, f"machine.{key}"), names) for key, value in document.items()},
    )


def _structured(value: object, type_name: str, types: Mapping[str, str]) -> Value:
    match value:
        case Mapping() if type_name == STRING_MAP:
            return StringMap(value)
        case Mapping():
            return structure(value, type_name, types)
        case list() | tuple():
            return [_structured(item, type_name, types) for item in value]
        case None | bool() | int() | float() | str() | datetime():
            return value
        case _:
            raise TypeError(f"Go templates have no type for a value of Python's type {type(value).__name__}")


def to_bytes(content: str) -> bytes:
    """Encode a string in UTF-8, as Go stores it."""
    return content.encode(errors="surrogateescape")


def from_bytes(content: bytes) -> str:
    return content.decode(errors="replace")


def is_list(value: Value) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def type_name(value: Value) -> str:  # noqa: PLR0911  (a table)
    match value:
        case None | Missing():
            return "<nil>"
        case bool():
            return "bool"
        case int():
            return "int"
        case float():
            return "float64"
        case str():
            return "string"
        case datetime():
            return "time.Time"
        case Struct(type_name=name):
            return name
        case StringMap():
            return STRING_MAP
        case Mapping():
            return f"map[string]{_common_type(list(value.values()))}"
        case _:
            return f"[]{_common_type(value)}"


def _common_type(values: Sequence[Value]) -> str:
    names = {type_name(value) for value in values}
    return names.pop() if len(names) == 1 else "interface {}"


def truth(value: Value) -> bool:
    """Return whether `if` takes a value for true. A struct is true, and any other value unless it is zero or empty."""
    match value:
        case None | Missing():
            return False
        case Struct() | datetime():
            return True
        case _:
            return bool(value)


def text(value: Value) -> str:  # noqa: PLR0911  (a table)
    """Format a value as Go's %v does."""
    match value:
        case None:
            return "<nil>"
        case Missing():
            return value.value
        case bool():
            return str(value).lower()
        case float():
            return float_text(value)
        case datetime():
            return time_text(value)
        case Struct(fields=fields):
            return f"{{{' '.join(map(text, fields.values()))}}}"
        case MapHeading(heading=heading):
            return heading
        case Mapping():
            return f"map[{' '.join(f'{key}:{text(value[key])}' for key in sorted(value))}]"
        case str() | int():
            return str(value)
        case _:
            return f"[{' '.join(map(text, value))}]"


def float_text(value: float) -> str:
    """Format a float as the shortest decimal of the same value, with an exponent when Go's %v has one."""
    for precision in range(17):
        scientific = f"{value:.{precision}e}"
        if float(scientific) == value:
            exponent = int(scientific.partition("e")[2])
            return f"{value:.{max(precision - exponent, 0)}f}" if -5 < exponent < 6 else scientific
    return repr(value)


def json_text(value: Value) -> str:
    """Encode a value as one line of JSON, as Go's encoder does without HTML escapes."""
    return escape_surrogates(json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":")))


def escape_surrogates(text: str) -> str:
    """Escape the surrogates in the text of a JSON document, so that the text can be encoded in UTF-8.

    A surrogate stands for a byte of the original string that is not UTF-8.
    """
    return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _plain(value: Value) -> object:
    match value:
        case datetime():
            return format_time(value, RFC3339_NANO)
        case float() if value.is_integer() and abs(value) < 1e21:
            return int(value)
        case Struct(fields=fields):
            return {key: _plain(item) for key, item in fields.items()}
        case Mapping():
            return {key: _plain(value[key]) for key in sorted(value)}
        case None | Missing() | bool() | int() | float() | str():
            return None if value is Missing.VALUE else value
        case _:
            return [_plain(item) for item in value]


_ESCAPES = {"\\": "\\\\", "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}


def quoted(content: str, quote: str = '"') -> str:
    """Quote a string as Go's %q does."""
    return quote + "".join(_escaped(character, quote) for character in content) + quote


def _escaped(character: str, quote: str) -> str:
    if character == quote:
        return f"\\{quote}"
    if escape := _ESCAPES.get(character):
        return escape
    if character.isprintable():
        return character
    code = ord(character)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
