"""Read the fields of a JSON document with strict checks of their types; errors name the field."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

_Scalar = TypeVar("_Scalar", str, int, bool)
_Member = TypeVar("_Member", bound=StrEnum)

_MAX_NUMBER = 2**53 - 1
"""The largest integer that all JSON libraries read exactly. Python alone would also read much larger ones."""

_TYPE_NAMES = {str: "a string", int: "an integer", bool: "true or false"}


class FieldError(ValueError):
    """A field is missing or has an invalid value."""


class Fields:
    """The fields of a JSON object. `path` is the object's position in the document, for error messages.

    If a field is missing or has an invalid value, each method raises FieldError.
    """

    def __init__(self, document: object, path: str = "") -> None:
        if not isinstance(document, dict):
            raise FieldError(f"{path or 'it'} is not a JSON object")
        self._values: dict[str, object] = document
        self._path = path
        self._read: set[str] = set()
        self._parts: dict[str, Fields] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def text(self, key: str) -> str:
        return _checked(self._value(key), str, self._name(key))

    def optional_text(self, key: str) -> str | None:
        return None if self._value(key) is None else self.text(key)

    def flag(self, key: str) -> bool:
        return _checked(self._value(key), bool, self._name(key))

    def number(self, key: str, *, minimum: int = 1, maximum: int | None = None) -> int:
        number = _checked(self._value(key), int, self._name(key))
        if number < minimum or number > (maximum or _MAX_NUMBER):
            is_open = maximum is None and number < minimum
            limits = f"at least {minimum}" if is_open else f"{minimum} to {maximum or _MAX_NUMBER}"
            raise FieldError(f"{self._name(key)} is {number}, but must be {limits}")
        return number

    def moment(self, key: str) -> datetime:
        """Return a time with its offset from UTC."""
        text = self.text(key)
        try:
            moment = datetime.fromisoformat(text)
        except ValueError as error:
            raise FieldError(f'{self._name(key)} is "{text}", which is not a time') from error
        if moment.tzinfo is None:
            raise FieldError(f"{self._name(key)} has no offset from UTC")
        return moment

    def optional_moment(self, key: str) -> datetime | None:
        return None if self._value(key) is None else self.moment(key)

    def member(self, key: str, kind: type[_Member]) -> _Member:
        return _member(self._value(key), kind, self._name(key))

    def members(self, key: str, kind: type[_Member]) -> list[_Member]:
        return [_member(value, kind, name) for name, value in self._entries(key)]

    def optional_members(self, key: str, kind: type[_Member]) -> list[_Member] | None:
        return None if self._value(key) is None else self.members(key, kind)

    def texts(self, key: str) -> list[str]:
        return [_checked(value, str, name) for name, value in self._entries(key)]

    def pairs(self, key: str) -> tuple[tuple[str, str], ...]:
        """Return the items of an object whose values are all strings, in the object's order."""
        table = self.part(key)
        return tuple((_checked(name, str, f"a name in {self._name(key)}"), table.text(name)) for name in table)

    def part(self, key: str) -> Fields:
        part = self._parts[key] = Fields(self._value(key), self._name(key))
        return part

    def optional_part(self, key: str) -> Fields | None:
        return None if self._value(key) is None else self.part(key)

    def parts(self, key: str) -> list[Fields]:
        return [Fields(value, name) for name, value in self._entries(key)]

    def unread(self) -> dict[str, object]:
        """Return the fields that no method has read, including fields of nested objects, except objects in lists."""
        unread = {key: value for key, value in self._values.items() if key not in self._read}
        return unread | {key: inner for key, part in self._parts.items() if (inner := part.unread())}

    def error(self, key: str, problem: str) -> FieldError:
        """Return the error for a field whose value the caller has found to be invalid. `problem` says why."""
        return FieldError(f"{self._name(key)}: {problem}")

    def _entries(self, key: str) -> list[tuple[str, object]]:
        values = self._value(key)
        if not isinstance(values, list):
            raise FieldError(f"{self._name(key)} is not a list")
        return [(f"{self._name(key)}[{number}]", value) for number, value in enumerate(values)]

    def _value(self, key: str) -> object:
        self._read.add(key)
        if key not in self._values:
            raise FieldError(f"{self._name(key)} is missing")
        return self._values[key]

    def _name(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key


def _checked(value: object, kind: type[_Scalar], name: str) -> _Scalar:
    if type(value) is not kind:  # a bool is an int to isinstance
        raise FieldError(f"{name} is not {_TYPE_NAMES[kind]}")
    if kind is str:
        _check_characters(str(value), name)
    return value


def _check_characters(text: str, name: str) -> None:
    """Check that a text can be written to files and terminals.

    JSON permits halves of surrogate pairs. Python uses some of them for bytes that are not UTF-8, as in paths. Only
    these halves can be written.
    """
    if text.isascii():
        return
    try:
        text.encode(errors="surrogateescape")
    except UnicodeEncodeError as error:
        half = f"U+{ord(text[error.start]):04X}"
        raise FieldError(f"{name} has half of a surrogate pair, {half}, which is no character") from error


def _member(value: object, kind: type[_Member], name: str) -> _Member:
    try:
        return kind(_checked(value, str, name))
    except FieldError:
        raise
    except ValueError as error:
        raise FieldError(f'{name} is "{value}", but must be one of: {", ".join(kind)}') from error
