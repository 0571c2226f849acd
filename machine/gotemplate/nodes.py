"""Define the nodes of a parsed template.

`position` is an offset in characters. Error messages show the `str` of a node.
"""

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
    """A constant. `text` is the constant as it is written in the template."""

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
    """`.A.B`, fields of the current value (the dot)."""

    position: int
    names: tuple[str, ...]

    def __str__(self) -> str:
        return "".join(f".{name}" for name in self.names)


@dataclass(frozen=True, kw_only=True)
class Variable:
    """`$x.A.B`, fields of a variable's value. `name` includes the dollar sign."""

    position: int
    name: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        return ".".join((self.name, *self.names))


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Fields of another operand's value: `(pipeline).A.B`, or `function.A.B` if the function takes no arguments."""

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
    """A sequence of commands. The value of each command is the last argument of the next."""

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


# Nodes


@dataclass(frozen=True, kw_only=True)
class Text:
    text: str


@dataclass(frozen=True, kw_only=True)
class Action:
    """A pipeline. Its value is printed unless the pipeline sets a variable."""

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
