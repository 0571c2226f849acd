"""Format the values of templates as Go's printf does."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from machine.gotemplate.values import (
    Missing,
    Struct,
    Value,
    float_text,
    quoted,
    text,
    to_bytes,
    type_name,
)

_DIRECTIVE = re.compile(
    r"%([-+# 0]*)(?:\[(\d{1,9})\])?(\d{1,9}|\*)?(?:\.(\d{0,9}|\*))?(?:\[(\d{1,9})\])?(.?)", re.DOTALL
)
_WIDEST = 1_000_000  # Go's own limit
_FLOATS = "eEfFgG"


@dataclass(frozen=True, kw_only=True)
class _Spec:
    """One format specification, such as `%-8.3f`."""

    flags: str
    width: int | None
    precision: int | None
    verb: str

    def padded(self, content: str, *, number: bool = False) -> str:
        width = self.width or 0
        if "-" in self.flags:
            return content.ljust(width)
        if "0" in self.flags:
            sign = content[:1] if number and content[:1] in ("+", "-", " ") else ""
            return sign + content[len(sign) :].rjust(width - len(sign), "0")
        return content.rjust(width)

    def signed(self, content: str) -> str:
        if content.startswith("-"):
            return content
        return ("+" if "+" in self.flags else " " if " " in self.flags else "") + content


class _Arguments:
    def __init__(self, values: Sequence[Value]) -> None:
        self._values = values
        self._next = 0
        self._reordered = False

    def go_to(self, number: str | None) -> bool:
        """Go to the argument `number`, counted from 1, or to the next argument if `number` is None.

        Return whether that argument exists.
        """
        if number:
            self._reordered = True
            self._next = int(number) - 1
        return 0 <= self._next < len(self._values)

    def take(self) -> Value:
        self._next += 1
        return self._values[self._next - 1]

    def take_number(self, word: str | None) -> tuple[int | None, bool]:
        """Return a width or precision, and whether it is valid. If `word` is `*`, the number is the next argument."""
        if word is None:
            return None, True
        value = int(word or 0) if word != "*" else self.take() if self.go_to(None) else None
        if isinstance(value, int) and abs(value) <= _WIDEST:
            return value, True
        return None, False

    def rest(self) -> str:
        if self._reordered or self._next >= len(self._values):
            return ""
        extra = (f"{type_name(value)}={text(value)}" for value in self._values[self._next :])
        return f"%!(EXTRA {', '.join(extra)})"


def printf(form: str, values: Sequence[Value]) -> str:
    """Format values as Go's Sprintf does. Mistakes in `form` are reported within the result."""
    arguments = _Arguments(values)
    return _DIRECTIVE.sub(lambda match: _directive(match, arguments), form) + arguments.rest()


def _directive(match: re.Match[str], arguments: _Arguments) -> str:
    flags, first, width_word, precision_word, second, verb = match.groups()
    if not verb:
        return "%!(NOVERB)"
    if first and width_word == "*":
        arguments.go_to(first)
    width, good_width = arguments.take_number(width_word)
    precision, good_precision = arguments.take_number(precision_word)
    complaint = ("" if good_width else "%!(BADWIDTH)") + ("" if good_precision else "%!(BADPREC)")
    if verb == "%":
        return f"{complaint}%"
    number = second or (first if width_word != "*" else None)
    if not arguments.go_to(number):
        return f"{complaint}%!{verb}({'BADINDEX' if number else 'MISSING'})"
    if width is not None and width < 0:
        flags, width = f"{flags}-", -width
    spec = _Spec(flags=flags, width=width, precision=precision, verb=verb)
    return complaint + _formatted(spec, arguments.take())


def _formatted(spec: _Spec, value: Value) -> str:  # noqa: PLR0911  (a table)
    match value:
        case _ if spec.verb == "T":
            return spec.padded(type_name(value))
        case datetime():
            return spec.padded(text(value)) if spec.verb in "vs" else _wrong(spec, value)
        case None | Missing():
            return spec.padded("<nil>") if spec.verb == "v" else f"%!{spec.verb}(<nil>)"
        case bool() | int() | float() | str():
            return _simple(spec, value)
        case Struct(fields=fields):
            return f"{{{' '.join(_formatted(spec, item) for item in fields.values())}}}"
        case Mapping():
            return f"map[{' '.join(f'{key}:{_formatted(spec, value[key])}' for key in sorted(value))}]"
        case _:
            return f"[{' '.join(_formatted(spec, item) for item in value)}]"


def _simple(spec: _Spec, value: bool | int | float | str) -> str:
    match value:
        case bool():
            return spec.padded(text(value)) if spec.verb in "tv" else _wrong(spec, value)
        case int():
            return _integer(spec, value)
        case float():
            return _float(spec, value)
        case str():
            return _string(spec, value)


def _wrong(spec: _Spec, value: Value) -> str:
    return f"%!{spec.verb}({type_name(value)}={_formatted(replace(spec, verb='v'), value)})"


def _integer(spec: _Spec, value: int) -> str:
    sharp = "#" in spec.flags
    match spec.verb:
        case "d" | "v":
            return spec.padded(spec.signed(str(value)), number=True)
        case "x" | "X" | "o" | "b" | "O":
            prefix = {"x": "0x", "X": "0X", "o": "0", "b": "0b"}[spec.verb] if sharp and spec.verb != "O" else ""
            digits = ("0o" if spec.verb == "O" else prefix) + f"{abs(value):{spec.verb.replace('O', 'o')}}"
            return spec.padded(spec.signed(("-" if value < 0 else "") + digits), number=True)
        case "c":
            return spec.padded(_character(value))
        case "q":
            return spec.padded(quoted(_character(value), "'"))
        case "U":
            return spec.padded(f"U+{value:04X}")
        case _:
            return _wrong(spec, value)


def _character(code: int) -> str:
    return chr(code) if 0 <= code <= 0x10FFFF and not 0xD800 <= code < 0xE000 else "\ufffd"


def _float(spec: _Spec, value: float) -> str:
    if spec.verb not in f"v{_FLOATS}":
        return _wrong(spec, value)
    if spec.verb in "vgG" and spec.precision is None:
        digits = float_text(value)
    else:
        form = f".{6 if spec.precision is None else spec.precision}{spec.verb.replace('v', 'g')}"
        digits = format(value, form)
    return spec.padded(spec.signed(digits.upper() if spec.verb == "G" else digits), number=True)


def _string(spec: _Spec, value: str) -> str:
    short = value if spec.precision is None else value[: spec.precision]
    match spec.verb:
        case "s" | "v":
            return spec.padded(short)
        case "q":
            return spec.padded(f"`{short}`" if "#" in spec.flags and "`" not in short else quoted(short))
        case "x" | "X":
            digits = to_bytes(short).hex(*(" " if " " in spec.flags else ()))
            return spec.padded(digits.upper() if spec.verb == "X" else digits)
        case _:
            return _wrong(spec, value)
