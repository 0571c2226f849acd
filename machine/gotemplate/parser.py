"""Parse a template. Recursive descent turns its tokens into nodes."""

from __future__ import annotations

import math
import re
from collections.abc import Collection

from machine.gotemplate.lexer import Kind, Lexer, Token
from machine.gotemplate.nodes import (
    Action,
    Break,
    Chain,
    Command,
    Continue,
    Dot,
    Field,
    Function,
    If,
    Literal,
    Nil,
    Node,
    Operand,
    Pipe,
    Range,
    Text,
    Variable,
    With,
)
from machine.gotemplate.values import TemplateError, from_bytes, quoted, to_bytes

_BRANCHES: dict[str, type[If | With | Range]] = {"if": If, "with": With, "range": Range}
_UNSUPPORTED = frozenset({"block", "define", "template"})
_EXECUTABLE = (Field, Function, Variable, Chain, Pipe)
_MAX_INT64 = 2**63 - 1

_ESCAPE = re.compile(rb"""\\(?:([abfnrtv\\'"])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|)""")
_CONTROL = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


def parse(name: str, text: str, functions: Collection[str]) -> tuple[Node, ...]:
    """Return the nodes of a template.

    Raises:
        TemplateError: the template's syntax is wrong.
    """
    parser = _Parser(Lexer(name, text), functions)
    try:
        return parser.parse()
    except RecursionError as error:
        raise parser.error("nested too deeply") from error


class _Parser:
    def __init__(self, lexer: Lexer, functions: Collection[str]) -> None:
        self._lexer = lexer
        self._tokens = lexer.tokens()
        self._pushed: list[Token] = []
        self._functions = functions
        self._variables = ["$"]
        self._ranges = 0

    def parse(self) -> tuple[Node, ...]:
        nodes, end = self._nodes(None)
        if end:
            raise self.error(f"unexpected {{{{{end}}}}}")
        return nodes

    # Tokens

    def error(self, message: str) -> TemplateError:
        return self._lexer.error(message)

    def _next(self) -> Token:
        return self._pushed.pop() if self._pushed else next(self._tokens)

    def _next_solid(self) -> Token:
        while (token := self._next()).kind is Kind.SPACE:
            pass
        return token

    def _peek(self) -> Token:
        token = self._next()
        self._pushed.append(token)
        return token

    def _peek_solid(self) -> Token:
        token = self._next_solid()
        self._pushed.append(token)
        return token

    def _unexpected(self, token: Token, context: str) -> TemplateError:
        return self.error(f"unexpected {token} in {context}")

    def _expect_right(self, context: str) -> None:
        token = self._next_solid()
        if token.kind is not Kind.RIGHT:
            raise self._unexpected(token, context)

    # Nodes

    def _nodes(self, branch: str | None) -> tuple[tuple[Node, ...], str | None]:
        """Parse up to the end of `branch` or, if `branch` is None, of the template.

        Return the nodes, and the `end` or `else` that closed the branch.
        """
        nodes: list[Node] = []
        while (token := self._next()).kind is not Kind.EOF:
            if token.kind is Kind.TEXT:
                nodes.append(Text(text=token.text))
                continue
            word = self._next_solid()
            if word.kind is Kind.KEYWORD and word.text in ("end", "else"):
                return tuple(nodes), self._closing(word.text, branch)
            nodes.append(self._action(word))
        if branch:
            raise self.error("unexpected EOF")
        return tuple(nodes), None

    def _closing(self, word: str, branch: str | None) -> str:
        if word == "end" or branch != "if" or self._peek_solid().text != "if":
            self._expect_right(word)
        return word

    def _action(self, word: Token) -> Node:
        if word.kind is Kind.KEYWORD:
            if word.text in _BRANCHES:
                return self._branch(word.text)
            if word.text in ("break", "continue"):
                return self._jump(word.text)
            if word.text in _UNSUPPORTED:
                raise self.error(f"{{{{{word.text}}}}} is not supported")
        self._pushed.append(word)
        return Action(pipe=self._pipe("command", Kind.RIGHT))

    def _jump(self, word: str) -> Break | Continue:
        self._expect_right(f"{{{{{word}}}}}")
        if not self._ranges:
            raise self.error(f"{{{{{word}}}}} outside {{{{range}}}}")
        return Break() if word == "break" else Continue()

    def _branch(self, word: str) -> Node:
        outer = len(self._variables)
        pipe = self._pipe(word, Kind.RIGHT)
        self._ranges += word == "range"
        body, end = self._nodes(word)
        self._ranges -= word == "range"
        otherwise: tuple[Node, ...] = ()
        if end == "else":
            if self._peek_solid().kind is Kind.KEYWORD and word == "if":
                self._next_solid()
                otherwise = (self._branch("if"),)  # it consumes the only `end`
            else:
                otherwise, end = self._nodes("else")
                if end != "end":
                    raise self.error(f"expected end; found {{{{{end}}}}}")
        del self._variables[outer:]
        return _BRANCHES[word](pipe=pipe, body=body, otherwise=otherwise)

    # Pipelines

    def _pipe(self, context: str, end: Kind) -> Pipe:
        position = self._peek_solid().position
        variables, assigns = self._declarations(context)
        commands: list[Command] = []
        while (token := self._next_solid()).kind is not end:
            if token.kind is Kind.RIGHT:
                raise self.error("unclosed left paren")
            if token.kind not in _OPERANDS and token.text != "nil":
                raise self._unexpected(token, context)
            self._pushed.append(token)
            commands.append(self._command())
        if not commands:
            raise self.error(f"missing value for {context}")
        for stage, command in enumerate(commands[1:], 2):
            if not isinstance(command.operands[0], _EXECUTABLE):
                raise self.error(f"non executable command in pipeline stage {stage}")
        return Pipe(position=position, variables=variables, assigns=assigns, commands=tuple(commands))

    def _declarations(self, context: str) -> tuple[tuple[str, ...], bool]:
        """Return the variables that a pipeline sets, and whether the variables must already exist (`=`, not `:=`)."""
        found: list[str] = []
        while (variable := self._peek_solid()).kind is Kind.VARIABLE:
            self._next_solid()
            after = self._peek()
            token = self._next_solid()
            if token.kind in (Kind.DECLARE, Kind.ASSIGN):
                found.append(variable.text)
                self._variables.append(variable.text)
                return tuple(found), token.kind is Kind.ASSIGN
            if token.text != ",":
                self._pushed.append(token)
                if after.kind is Kind.SPACE:
                    self._pushed.append(after)
                self._pushed.append(variable)
                break
            found.append(variable.text)
            self._variables.append(variable.text)
            if context != "range" or len(found) > 1:
                raise self.error(f"too many declarations in {context}")
            if self._peek_solid().kind not in (Kind.VARIABLE, Kind.RIGHT, Kind.RIGHT_PAREN):
                raise self.error("range can only initialize variables")
        return tuple(found), False

    def _command(self) -> Command:
        position = self._peek_solid().position
        operands: list[Operand] = []
        while True:
            self._peek_solid()
            operand = self._operand()
            if operand:
                operands.append(operand)
            token = self._next()
            match token.kind:
                case Kind.SPACE:
                    continue
                case Kind.RIGHT | Kind.RIGHT_PAREN:
                    self._pushed.append(token)
                case Kind.PIPE:
                    pass
                case _:
                    raise self._unexpected(token, "operand")
            break
        if not operands:
            raise self.error("empty command")
        return Command(position=position, operands=tuple(operands))

    def _operand(self) -> Operand | None:
        operand = self._term()
        position = self._peek().position
        names: list[str] = []
        while operand and self._peek().kind is Kind.FIELD:
            names.append(self._next().text[1:])
        if not names:
            return operand
        match operand:
            case Field():
                return Field(position=position, names=(*operand.names, *names))
            case Variable():
                return Variable(position=position, name=operand.name, names=tuple(names))
            case Literal() | Nil() | Dot():
                raise self.error(f"unexpected . after term {quoted(str(operand))}")
            case _:
                assert operand
                return Chain(position=position, operand=operand, names=tuple(names))

    def _term(self) -> Operand | None:  # noqa: PLR0911  (a table)
        token = self._next_solid()
        position, text = token.position, token.text
        match token.kind:
            case Kind.IDENTIFIER:
                if text not in self._functions:
                    raise self.error(f"function {quoted(text)} not defined")
                return Function(position=position, name=text)
            case Kind.VARIABLE:
                if text not in self._variables:
                    raise self.error(f"undefined variable {quoted(text)}")
                return Variable(position=position, name=text, names=())
            case Kind.FIELD:
                return Field(position=position, names=(text[1:],))
            case Kind.DOT:
                return Dot(position=position)
            case Kind.KEYWORD if text == "nil":
                return Nil(position=position)
            case Kind.LEFT_PAREN:
                return self._pipe("parenthesized pipeline", Kind.RIGHT_PAREN)
            case kind if kind in _CONSTANTS:
                return Literal(position=position, value=self._constant(token), text=text)
            case _:
                self._pushed.append(token)
                return None

    # Constants

    def _constant(self, token: Token) -> bool | int | float | str:
        match token.kind:
            case Kind.BOOL:
                return token.text == "true"
            case Kind.NUMBER:
                return self._number(token.text)
            case Kind.CHARACTER:
                return self._character(token.text)
            case Kind.STRING:
                return self._unquoted(token.text[1:-1])
            case _:
                return token.text[1:-1].replace("\r", "")

    def _number(self, text: str) -> int | float:
        whole = _integer(text)
        if whole is not None:
            if abs(whole) > _MAX_INT64:
                raise self.error(f"integer overflow: {quoted(text)}")
            return whole
        try:
            number = float(text)
        except ValueError:
            number = math.inf
        if math.isinf(number):
            raise self.error(f"illegal number syntax: {quoted(text)}")
        if not set(text) & set(".eE"):
            raise self.error(f"integer overflow: {quoted(text)}")
        return number

    def _character(self, text: str) -> int:
        content = self._unquoted(text[1:-1])
        if len(content) != 1:
            raise self.error(f"malformed character constant: {text}")
        return ord(content)

    def _unquoted(self, text: str) -> str:
        def decode(match: re.Match[bytes]) -> bytes:
            simple, hexadecimal, short, long, octal = match.groups()
            if simple:
                return _CONTROL.get(simple, simple)
            if hexadecimal or octal:
                return bytes([int(hexadecimal or octal, 16 if hexadecimal else 8) & 0xFF])
            if short or long:
                return to_bytes(chr(int(short or long, 16)))
            raise self.error("invalid syntax")

        try:
            return from_bytes(_ESCAPE.sub(decode, to_bytes(text)))
        except ValueError as error:  # beyond Unicode
            raise self.error("invalid syntax") from error


def _integer(text: str) -> int | None:
    octal = re.fullmatch(r"([+-]?)0_?([0-7][0-7_]*)", text)
    try:
        return int(octal[1] + octal[2], 8) if octal else int(text, 0)
    except ValueError:
        return None


_CONSTANTS = frozenset({Kind.BOOL, Kind.CHARACTER, Kind.NUMBER, Kind.RAW_STRING, Kind.STRING})
_OPERANDS = _CONSTANTS | {Kind.DOT, Kind.FIELD, Kind.IDENTIFIER, Kind.VARIABLE, Kind.LEFT_PAREN}
