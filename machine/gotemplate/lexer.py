"""Split a template into tokens. Of several errors in a template, the first one is reported, as in Go.

Therefore the lexer yields one token at a time, and the parser can report an error before the lexer reads on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from machine.gotemplate.values import TemplateError, quoted

KEYWORDS = frozenset({"block", "break", "continue", "define", "else", "end", "if", "nil", "range", "template", "with"})
_SPACES = " \t\r\n"
_LONGEST_SHOWN = 10


class Kind(StrEnum):
    TEXT = "text"
    LEFT = "left delimiter"
    RIGHT = "right delimiter"
    SPACE = "space"
    KEYWORD = "keyword"
    DOT = "dot"
    FIELD = "field"
    VARIABLE = "variable"
    IDENTIFIER = "identifier"
    BOOL = "bool"
    NUMBER = "number"
    CHARACTER = "character constant"
    STRING = "string"
    RAW_STRING = "raw string"
    DECLARE = ":="
    ASSIGN = "="
    PIPE = "|"
    LEFT_PAREN = "("
    RIGHT_PAREN = ")"
    OTHER = "other"
    EOF = "EOF"


@dataclass(frozen=True, kw_only=True)
class Token:
    """A piece of a template. `position` is its offset in characters, and `line` its line, counted from 1."""

    kind: Kind
    text: str
    position: int
    line: int

    def __str__(self) -> str:
        """Return the token as error messages show it."""
        if self.kind is Kind.EOF:
            return "EOF"
        if self.kind in (Kind.KEYWORD, Kind.DOT):
            return f"<{self.text}>"
        if len(self.text) > _LONGEST_SHOWN:
            return f"{quoted(self.text[:_LONGEST_SHOWN])}..."
        return quoted(self.text)


_LEFT = re.compile(r"\{\{(?:-(?=[ \t\r\n]))?")
_COMMENT = re.compile(r"\{\{(?:-[ \t\r\n]+)?/\*")
_RIGHT = re.compile(r"(?:[ \t\r\n]-)?\}\}")
_DIGITS = r"(?:0[xX][0-9a-fA-F_]*|0[oO][0-7_]*|0[bB][01_]*|[0-9_]*)"
_TOKENS = re.compile(
    rf"""(?P<SPACE>[ \t\r\n]+?(?=[ \t\r\n]-\}}\}}|[^ \t\r\n]|$))
    | (?P<DECLARE>:=) | (?P<ASSIGN>=) | (?P<PIPE>\|) | (?P<LEFT_PAREN>\() | (?P<RIGHT_PAREN>\))
    | (?P<STRING>"(?:[^"\\\n]|\\[^\n])*") | (?P<RAW_STRING>`[^`]*`) | (?P<CHARACTER>'(?:[^'\\\n]|\\[^\n])*')
    | (?P<VARIABLE>\$\w*) | (?P<FIELD>\.[^\W0-9]\w*) | (?P<DOT>\.(?![0-9]))
    | (?P<NUMBER>[+-]{_DIGITS}(?:\.[0-9_]*)?(?:[eE][+-]?[0-9_]*)?
               |(?=[0-9.]){_DIGITS}(?:\.[0-9_]*)?(?:[eE][+-]?[0-9_]*)?)
    | (?P<IDENTIFIER>\w+)
    | (?P<OTHER>[!-~])""",
    re.VERBOSE,
)
_RESERVED = {**dict.fromkeys(KEYWORDS, Kind.KEYWORD), "true": Kind.BOOL, "false": Kind.BOOL}
_INCOMPLETE = {
    ":": "expected :=",
    '"': "unterminated quoted string",
    "`": "unterminated raw quoted string",
    "'": "unterminated character constant",
}
"""The error for a token that is not complete, by the token's first character."""


class Lexer:
    def __init__(self, name: str, text: str) -> None:
        self._name = name
        self._text = text
        self.line = 1
        """The line of the token that was yielded last."""

    def tokens(self) -> Iterator[Token]:
        """Yield every token of the template. The last token is EOF.

        Raises:
            TemplateError: the text contains something that is not a token.
        """
        position, trims = 0, False
        while True:
            left = self._text.find("{{", position)
            end = len(self._text) if left < 0 else left
            trimmed = left >= 0 and self._trims_before(left)
            yield from self._plain(position, end, trims_left=trims, trims_right=trimmed)
            if left < 0:
                yield self._token(Kind.EOF, end, end)
                return
            if comment := _COMMENT.match(self._text, left):
                position, trims = self._comment(comment.end())
                continue
            match = _LEFT.match(self._text, left)
            assert match
            yield self._token(Kind.LEFT, left, left + 2)
            inside = match.end()
            while not (right := _RIGHT.match(self._text, inside)):
                token = self._inside(inside)
                yield token
                inside += len(token.text)
            yield self._token(Kind.RIGHT, inside, right.end())
            position, trims = right.end(), len(right[0]) > 2

    def _trims_before(self, left: int) -> bool:
        return self._text[left + 2 : left + 3] == "-" and self._text[left + 3 : left + 4].isspace()

    def _plain(self, start: int, end: int, *, trims_left: bool, trims_right: bool) -> Iterator[Token]:
        text = self._text[start:end]
        if trims_left:
            text = text.lstrip(_SPACES)
            start = end - len(text)
        if trims_right:
            text = text.rstrip(_SPACES)
        if text:
            yield self._token(Kind.TEXT, start, start + len(text))

    def _comment(self, start: int) -> tuple[int, bool]:
        """Return the offset at which a comment ends, and whether the comment trims the space that follows it."""
        end = self._text.find("*/", start)
        if end < 0:
            raise self.error("unclosed comment")
        right = _RIGHT.match(self._text, end + 2)
        if not right:
            raise self.error("comment ends before closing delimiter")
        return right.end(), len(right[0]) > 2

    def _inside(self, start: int) -> Token:
        match = _TOKENS.match(self._text, start)
        if not match:
            raise self._no_token(start)
        kind = Kind[match.lastgroup or "OTHER"]
        if problem := self._problem(kind, match):
            raise self.error(problem)
        return self._token(_RESERVED.get(match[0], kind), start, match.end())

    def _problem(self, kind: Kind, match: re.Match[str]) -> str | None:
        """Return a description of what is wrong with a matched token, or None if the token is valid."""
        text = match[0]
        following = self._text[match.end() : match.end() + 1]
        match kind:
            case Kind.OTHER:
                return _INCOMPLETE.get(text)
            case Kind.NUMBER if following.isalnum() or following == "_":
                return f"bad number syntax: {quoted(text + following)}"
            case Kind.FIELD | Kind.VARIABLE | Kind.IDENTIFIER if text != "$" and not self._ends_word(match.end()):
                return f"bad character {_described(following)}"
            case _:
                return None

    def _ends_word(self, position: int) -> bool:
        character = self._text[position : position + 1]
        return not character or character in f"{_SPACES}.,|:()" or self._text.startswith("}}", position)

    def _no_token(self, start: int) -> TemplateError:
        if start >= len(self._text):
            return self.error("unclosed action")
        return self.error(f"unrecognized character in action: {_described(self._text[start])}")

    def _token(self, kind: Kind, start: int, end: int) -> Token:
        self.line = self._text.count("\n", 0, start) + 1
        return Token(kind=kind, text=self._text[start:end], position=start, line=self.line)

    def error(self, message: str) -> TemplateError:
        return TemplateError(f"template: {self._name}:{self.line}: {message}")


def _described(character: str) -> str:
    return f"U+{ord(character):04X} '{character}'" if character else "U+FFFFFFFFFFFFFFFF"
