"""Define the functions that templates can call: Go's and Podman's."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from machine.gotemplate import times
from machine.gotemplate.printf import printf
from machine.gotemplate.values import (
    Missing,
    StringMap,
    Struct,
    Value,
    from_bytes,
    is_list,
    json_text,
    text,
    to_bytes,
    truth,
    type_name,
)


class CallError(Exception):
    """A function was called with wrong arguments. The message is Go's."""


@dataclass(frozen=True, kw_only=True)
class Signature:
    """A function and the Go types of its parameters. The last parameter of a `variadic` function may be repeated.

    The `call` of a method takes the receiver as its first argument.
    """

    call: Callable[..., Value]
    types: tuple[str, ...]
    variadic: bool = False


# Comparison


def _basic_kind(value: Value) -> str:
    if isinstance(value, (bool, int, float, str)):
        return type_name(value)
    raise CallError("invalid type for comparison")


def _equal(first: Value, *others: Value) -> bool:
    if not others:
        raise CallError("missing argument for comparison")
    return any(_same(first, other) for other in others)


def _same(first: Value, second: Value) -> bool:
    if isinstance(first, datetime) and isinstance(second, datetime):
        return first == second
    if first is None or second is None:
        return first is second
    if type_name(first) != type_name(second) or _basic_kind(first) != _basic_kind(second):
        raise CallError("incompatible types for comparison")
    return first == second


def _less(first: Value, second: Value) -> bool:
    kinds = _basic_kind(first), _basic_kind(second)
    if kinds[0] != kinds[1]:
        raise CallError("incompatible types for comparison")
    if kinds[0] == "bool":
        raise CallError("invalid type for comparison")
    if isinstance(first, str) and isinstance(second, str):
        return to_bytes(first) < to_bytes(second)
    return cast("float", first) < cast("float", second)


def _less_or_equal(first: Value, second: Value) -> bool:
    return _less(first, second) or _same(first, second)


# Lists, maps and strings


def _base_type(value: Value) -> str:
    """Return the name of a value's type, without the * of a pointer."""
    return type_name(value).removeprefix("*")


def _length(value: Value) -> int:
    if isinstance(value, str):
        return len(to_bytes(value))
    if isinstance(value, Mapping) or is_list(value):
        return len(cast("Sequence[Value]", value))
    raise CallError("len of nil pointer" if value is None else f"len of type {_base_type(value)}")


def _position(index: Value, length: int, *, beyond: int = 0) -> int:
    if isinstance(index, bool) or not isinstance(index, int):
        raise CallError(f"cannot index slice/array with {'nil' if index is None else f'type {type_name(index)}'}")
    if not 0 <= index < length + beyond:
        raise CallError(f"index out of range: {index}")
    return index


def _index(value: Value, *indices: Value) -> Value:
    if value is None:
        raise CallError("index of untyped nil")
    for index in indices:
        match value:
            case str():
                content = to_bytes(value)
                value = content[_position(index, len(content))]
            case Mapping():
                if not isinstance(index, str):
                    raise CallError(f"value has type {type_name(index)}; should be string")
                value = value.get(index, "" if isinstance(value, StringMap) else Missing.VALUE)
            case None | Struct() | bool() | int() | float() | datetime() | Missing():
                raise CallError(f"can't index item of type {_base_type(value)}")
            case _:
                value = value[_position(index, len(value))]
    return value


def _slice(value: Value, *indices: Value) -> Value:
    if value is None:
        raise CallError("slice of untyped nil")
    if len(indices) > 3:
        raise CallError(f"too many slice indexes: {len(indices)}")
    content: Any = to_bytes(value) if isinstance(value, str) else value
    if not isinstance(value, str) and not is_list(value):
        raise CallError(f"can't slice item of type {_base_type(value)}")
    if isinstance(value, str) and len(indices) == 3:
        raise CallError("cannot 3-index slice a string")
    bounds = [_position(index, len(content), beyond=1) for index in indices]
    start, end = (bounds + [0, len(content)][len(bounds) :])[:2]
    if start > end:
        raise CallError(f"invalid slice index: {start} > {end}")
    part = content[start:end]
    return from_bytes(part) if isinstance(value, str) else part


def _split(content: str, separator: str) -> list[str]:
    return content.split(separator) if separator else list(content)


def _join(parts: Sequence[str], separator: str) -> str:
    return separator.join(parts)


def _title(content: str) -> str:
    """Capitalise each word as Go's strings.Title does. A non-ASCII character ends a word only if it is a space."""
    return re.sub(r"(?<!\w)(?<![^\x00-\x7f\s])\w", lambda letter: letter[0].upper(), content)


def _truncate(content: str, length: int) -> str:
    if length < 0:
        raise CallError(f"runtime error: slice bounds out of range [:{length}]")
    return from_bytes(to_bytes(content)[:length])


def _pad(content: str, before: int, after: int) -> str:
    if min(before, after) < 0:
        raise CallError("strings: negative Repeat count")
    return f"{' ' * before}{content}{' ' * after}" if content else ""


def _print(*values: Value) -> str:
    """Join values as Go's Sprint does. Two neighbours have a space between them if neither of them is a string."""
    parts: list[str] = []
    for before, value in zip((None, *values), values, strict=False):
        if parts and not isinstance(before, str) and not isinstance(value, str):
            parts.append(" ")
        parts.append(text(value))
    return "".join(parts)


def _println(*values: Value) -> str:
    return " ".join(map(text, values)) + "\n"


_ANY = ("any", "any")

FUNCTIONS = {
    "eq": Signature(call=_equal, types=_ANY, variadic=True),
    "ne": Signature(call=lambda first, second: not _same(first, second), types=_ANY),
    "lt": Signature(call=_less, types=_ANY),
    "le": Signature(call=_less_or_equal, types=_ANY),
    "gt": Signature(call=lambda first, second: not _less_or_equal(first, second), types=_ANY),
    "ge": Signature(call=lambda first, second: not _less(first, second), types=_ANY),
    "not": Signature(call=lambda value: not truth(value), types=("any",)),
    "len": Signature(call=_length, types=("any",)),
    "index": Signature(call=_index, types=_ANY, variadic=True),
    "slice": Signature(call=_slice, types=_ANY, variadic=True),
    "print": Signature(call=_print, types=("any",), variadic=True),
    "println": Signature(call=_println, types=("any",), variadic=True),
    "printf": Signature(call=lambda form, *values: printf(form, values), types=("string", "any"), variadic=True),
    "html": Signature(
        call=lambda *values: html.escape(_print(*values)).replace("&quot;", "&#34;").replace("&#x27;", "&#39;"),
        types=("any",),
        variadic=True,
    ),
    # Podman's own
    "json": Signature(call=json_text, types=("any",)),
    "upper": Signature(call=str.upper, types=("string",)),
    "lower": Signature(call=str.lower, types=("string",)),
    "title": Signature(call=_title, types=("string",)),
    "split": Signature(call=_split, types=("string", "string")),
    "join": Signature(call=_join, types=("[]string", "string")),
    "truncate": Signature(call=_truncate, types=("string", "int")),
    "pad": Signature(call=_pad, types=("string", "int", "int")),
}

LOGIC = {"and": False, "or": True}
"""The logical functions. Each of them evaluates no more arguments after the first one with this truth value."""

TIME_METHODS = {
    "Format": Signature(call=times.format_time, types=("string",)),
    "String": Signature(call=times.time_text, types=()),
    "Year": Signature(call=lambda moment: moment.year, types=()),
    "Month": Signature(call=times.month, types=()),
    "Day": Signature(call=lambda moment: moment.day, types=()),
    "Hour": Signature(call=lambda moment: moment.hour, types=()),
    "Minute": Signature(call=lambda moment: moment.minute, types=()),
    "Second": Signature(call=lambda moment: moment.second, types=()),
    "Nanosecond": Signature(call=lambda moment: moment.microsecond * 1000, types=()),
    "Weekday": Signature(call=times.weekday, types=()),
    "YearDay": Signature(call=lambda moment: moment.timetuple().tm_yday, types=()),
    "Unix": Signature(call=lambda moment: times.unix(moment, per_second=1), types=()),
    "UnixMilli": Signature(call=lambda moment: times.unix(moment, per_second=1000), types=()),
    "UnixNano": Signature(call=lambda moment: times.unix(moment, per_second=10**9), types=()),
    "IsZero": Signature(call=lambda moment: moment == datetime.min.replace(tzinfo=UTC), types=()),
    "UTC": Signature(call=lambda moment: moment.astimezone(UTC), types=()),
    "Local": Signature(call=lambda moment: moment.astimezone(), types=()),
    "Before": Signature(call=lambda moment, other: moment < other, types=("time.Time",)),
    "After": Signature(call=lambda moment, other: moment > other, types=("time.Time",)),
    "Equal": Signature(call=lambda moment, other: moment == other, types=("time.Time",)),
}
