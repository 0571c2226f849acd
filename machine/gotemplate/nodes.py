"""The parts of a parsed template. `position` counts characters; `str` is how messages show a part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

# Operands


@dataclass(frozen=True, kw_only=True)
class Dot:
    position: int

    def __str__(self) -> str:
        return "."


@dataclass(frozen=True, kw_only=True)
class Nil:
    position: int

    def __str__(self) -> str:
        return "nil"


@dataclass(frozen=True, kw_only=True)
class Literal:
    """A constant; `text` is as it was typed."""

    position: int
    value: bool | int | float | str
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, kw_only=True)
class Function:
    position: int
    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, kw_only=True)
class Field:
    """`.A.B` of the dot."""

    position: int
    names: tuple[str, ...]

    def __str__(self) -> str:
        return "".join(f".{name}" for name in self.names)


@dataclass(frozen=True, kw_only=True)
class Variable:
    """`$x.A.B`; `name` has its dollar sign."""

    position: int
    name: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        return ".".join((self.name, *self.names))


@dataclass(frozen=True, kw_only=True)
class Chain:
    """`(pipeline).A.B`, or fields of what a function without arguments returns."""

    position: int
    operand: Operand
    names: tuple[str, ...]

    def __str__(self) -> str:
        return "".join((_argument_text(self.operand), *(f".{name}" for name in self.names)))


@dataclass(frozen=True, kw_only=True)
class Command:
    """A value, or a function or method with its arguments."""

    position: int
    operands: tuple[Operand, ...]

    def __str__(self) -> str:
        return " ".join(map(_argument_text, self.operands))


@dataclass(frozen=True, kw_only=True)
class Pipe:
    """Commands, each of which has the value of the one before as its last argument."""

    position: int
    variables: tuple[str, ...]
    assigns: bool
    commands: tuple[Command, ...]

    def __str__(self) -> str:
        target = f"{', '.join(self.variables)} {'=' if self.assigns else ':='} " if self.variables else ""
        return target + " | ".join(map(str, self.commands))


Operand: TypeAlias = Dot | Nil | Literal | Function | Field | Variable | Chain | Pipe


def _argument_text(operand: Operand) -> str:
    return f"({operand})" if isinstance(operand, Pipe) else str(operand)


# What stands in a row


@dataclass(frozen=True, kw_only=True)
class Text:
    text: str


@dataclass(frozen=True, kw_only=True)
class Action:
    """Prints what a pipeline comes to, unless it sets a variable."""

    pipe: Pipe


@dataclass(frozen=True, kw_only=True)
class If:
    pipe: Pipe
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...]


@dataclass(frozen=True, kw_only=True)
class With:
    pipe: Pipe
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...]


@dataclass(frozen=True, kw_only=True)
class Range:
    pipe: Pipe
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...]


@dataclass(frozen=True, kw_only=True)
class Break:
    pass


@dataclass(frozen=True, kw_only=True)
class Continue:
    pass


Node: TypeAlias = Text | Action | If | With | Range | Break | Continue
