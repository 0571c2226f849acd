"""Parse JSON and record the position of every value (pure)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')

Scalar = str | int | float | bool | None


class SyntaxProblemError(ValueError):
    """The text is not JSON. `offset` is the position in the text at which parsing failed."""

    def __init__(self, text: str, offset: int) -> None:
        super().__init__(text)
        self.text = text
        self.offset = offset


@dataclass(frozen=True, kw_only=True)
class Located:
    """A value, and the offset in the text at which it begins.

    If the value is an object, `keys` has the offset of each key, and `repeated` lists each further occurrence of a key,
    with its offset.
    """

    offset: int
    value: Scalar | list[Located] | dict[str, Located]
    keys: dict[str, int] = field(default_factory=dict)
    repeated: tuple[tuple[str, int], ...] = ()


def parse(text: str) -> Located:
    """Parse a JSON document.

    Raises:
        SyntaxProblemError: `text` is not JSON.
    """
    try:
        json.loads(text)
        return _value(_TOKEN.finditer(text))
    except json.JSONDecodeError as error:
        raise SyntaxProblemError(f"not JSON: {error.msg[:1].lower()}{error.msg[1:]}", error.pos) from error
    except RecursionError as error:
        raise SyntaxProblemError("nested too deeply", 0) from error


def _value(tokens: Iterator[re.Match[str]]) -> Located:
    """Parse the value that begins at the next token. The tokens must be those of valid JSON."""
    token = next(tokens)
    return _value_at(token, tokens)


def _value_at(token: re.Match[str], tokens: Iterator[re.Match[str]]) -> Located:
    match token[0]:
        case "{":
            return _object(token.start(), tokens)
        case "[":
            return _array(token.start(), tokens)
        case text:
            return Located(offset=token.start(), value=json.loads(text))


def _object(offset: int, tokens: Iterator[re.Match[str]]) -> Located:
    members: dict[str, Located] = {}
    keys: dict[str, int] = {}
    repeated = []
    for token in tokens:
        if token[0] == "}":
            break
        if token[0] == ",":
            continue
        key = json.loads(token[0])
        if key in keys:
            repeated.append((key, token.start()))
        keys[key] = token.start()
        next(tokens)  # the colon
        members[key] = _value(tokens)
    return Located(offset=offset, value=members, keys=keys, repeated=tuple(repeated))


def _array(offset: int, tokens: Iterator[re.Match[str]]) -> Located:
    entries: list[Located] = []
    for token in tokens:
        if token[0] == "]":
            break
        if token[0] != ",":
            entries.append(_value_at(token, tokens))
    return Located(offset=offset, value=entries)


def line_and_column(text: str, offset: int) -> tuple[int, int]:
    """Return the line and the column of an offset, both counted from 1."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)
