"""Render a parsed template with data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from machine.gotemplate.functions import FUNCTIONS, LOGIC, TIME_METHODS, CallError, Signature
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
from machine.gotemplate.parser import parse
from machine.gotemplate.values import (
    Missing,
    Struct,
    TemplateError,
    Value,
    is_list,
    text,
    to_bytes,
    truth,
    type_name,
)

_NIL_TYPES = ("any", "[]string")  # parameter types that accept nil


@dataclass(frozen=True, kw_only=True)
class Template:
    """A parsed template. Error messages call the template `name`."""

    name: str
    text: str
    nodes: tuple[Node, ...]

    @classmethod
    def parse(cls, name: str, text: str) -> Template:
        """Parse the text of a template.

        Raises:
            TemplateError: the template's syntax is wrong.
        """
        return cls(name=name, text=text, nodes=parse(name, text, {*FUNCTIONS, *LOGIC}))

    def execute(self, data: Value) -> str:
        """Render the template with `data`.

        Raises:
            TemplateError: the template names a field that `data` lacks, or calls a function with wrong arguments.
        """
        run = _Run(self, data)
        try:
            run.walk(data, self.nodes)
        except RecursionError as error:
            raise TemplateError(f"template: {self.name}: nested too deeply") from error
        return "".join(run.output)


class _Run:
    def __init__(self, template: Template, data: Value) -> None:
        self._template = template
        self._variables: list[tuple[str, Value]] = [("$", data)]
        self._at: Operand | Command | None = None
        self.output: list[str] = []

    def _error(self, message: str) -> TemplateError:
        """Return an error that names the part of the template that is being evaluated."""
        template, part = self._template, self._at
        assert part is not None
        before = template.text[: part.position]
        line, column = before.count("\n") + 1, len(to_bytes(before.rpartition("\n")[2]))
        return TemplateError(
            f'template: {template.name}:{line}:{column}: executing "{template.name}" at <{part}>: {message}'
        )

    # Nodes

    def walk(self, dot: Value, nodes: Sequence[Node]) -> Break | Continue | None:
        """Render the nodes. If a Break or Continue node ends the rendering early, return this node, else None."""
        for node in nodes:
            jump: Break | Continue | None = None
            match node:
                case Text():
                    self.output.append(node.text)
                case Action():
                    value = self._pipe(dot, node.pipe)
                    if not node.pipe.variables:
                        self.output.append(text(value))
                case If() | With():
                    jump = self._branch(dot, node)
                case Range():
                    jump = self._range(dot, node)
                case Break() | Continue():
                    return node
                case _:
                    assert_never(node)
            if jump:
                return jump
        return None

    def _branch(self, dot: Value, node: If | With) -> Break | Continue | None:
        outer = len(self._variables)
        value = self._pipe(dot, node.pipe)
        if truth(value):
            jump = self.walk(value if isinstance(node, With) else dot, node.body)
        else:
            jump = self.walk(dot, node.otherwise)
        del self._variables[outer:]
        return jump

    def _range(self, dot: Value, node: Range) -> Break | Continue | None:
        outer = len(self._variables)
        items = self._items(self._pipe(dot, node.pipe))
        inside = len(self._variables)
        for key, item in items:
            self._set_range_variables(outer, node.pipe, key, item)
            jump = self.walk(item, node.body)
            del self._variables[inside:]
            if isinstance(jump, Break):
                break
        del self._variables[outer:]
        return None if items else self.walk(dot, node.otherwise)

    def _items(self, value: Value) -> list[tuple[Value, Value]]:
        match value:
            case Mapping():
                return [(key, value[key]) for key in sorted(value)]
            case None | Missing():
                return []
            case Struct() | bool() | int() | float() | str() | datetime():
                raise self._error(f"range can't iterate over {text(value)}")
            case _:
                return list(enumerate(value))

    def _set_range_variables(self, first: int, pipe: Pipe, key: Value, item: Value) -> None:
        values = (item,) if len(pipe.variables) == 1 else (key, item)
        for place, (name, value) in enumerate(zip(pipe.variables, values, strict=False), first):
            if pipe.assigns:
                self._assign(name, value)
            else:
                self._variables[place] = (name, value)

    # Pipelines

    def _pipe(self, dot: Value, pipe: Pipe) -> Value:
        self._at = pipe
        final: tuple[Value, ...] = ()
        for command in pipe.commands:
            final = (self._command(dot, command, final),)
        (value,) = final
        for name in pipe.variables:
            if pipe.assigns:
                self._assign(name, value)
            else:
                self._variables.append((name, value))
        return value

    def _assign(self, name: str, value: Value) -> None:
        for place in reversed(range(len(self._variables))):
            if self._variables[place][0] == name:
                self._variables[place] = (name, value)
                return
        raise self._error(f"undefined variable: {name}")

    def _command(self, dot: Value, command: Command, final: tuple[Value, ...]) -> Value:
        """Return a command's value. `final` has the value of the previous command in the pipeline, if there is one."""
        first, arguments = command.operands[0], command.operands[1:]
        if not isinstance(first, Pipe):
            self._at = first
        if isinstance(first, Function):
            return self._function(dot, first, arguments, final, whole=command)
        if isinstance(first, (Field, Chain)) or (isinstance(first, Variable) and first.names):
            return self._fields(dot, first, arguments, final)
        if arguments or final:
            raise self._error(f"can't give argument to non-function {first}")
        if isinstance(first, Nil):
            raise self._error("nil is not a command")
        return self._value(dot, first)

    def _value(self, dot: Value, operand: Operand) -> Value:  # noqa: PLR0911  (a table)
        """Return the value of an operand that has no arguments."""
        self._at = operand
        match operand:
            case Dot():
                return dot
            case Nil():
                return None
            case Literal():
                return operand.value
            case Pipe():
                return self._pipe(dot, operand)
            case Function():
                return self._function(dot, operand, (), (), whole=operand)
            case Variable() if not operand.names:
                return self._variable(operand.name)
            case Field() | Variable() | Chain():
                return self._fields(dot, operand, (), ())

    def _variable(self, name: str) -> Value:
        for candidate, value in reversed(self._variables):
            if candidate == name:
                return value
        raise self._error(f"undefined variable: {name}")

    # Fields and methods

    def _fields(
        self, dot: Value, operand: Field | Variable | Chain, arguments: Sequence[Operand], final: tuple[Value, ...]
    ) -> Value:
        if isinstance(operand, Chain):
            value = self._value(dot, operand.operand)
        else:
            value = self._variable(operand.name) if isinstance(operand, Variable) else dot
        *names, last = operand.names
        for name in names:
            value = self._field(dot, value, name, (), ())
        return self._field(dot, value, last, arguments, final, whole=operand)

    def _field(
        self,
        dot: Value,
        receiver: Value,
        name: str,
        arguments: Sequence[Operand],
        final: tuple[Value, ...],
        *,
        whole: Operand | None = None,
    ) -> Value:
        has_arguments = bool(arguments or final)
        match receiver:
            case Missing():
                return receiver
            case None:
                raise self._error(f"nil pointer evaluating interface {{}}.{name}")
            case datetime() if name in TIME_METHODS:
                values = self._arguments(dot, name, TIME_METHODS[name], arguments, final)
                return self._call(name, TIME_METHODS[name], (receiver, *values), whole)
            case Struct() if name in receiver.fields:
                if has_arguments:
                    raise self._error(f"{name} has arguments but cannot be invoked as function")
                return receiver.fields[name]
            case Mapping():
                if has_arguments:
                    raise self._error(f"{name} is not a method but has arguments")
                return receiver.get(name, Missing.VALUE)
            case _:
                raise self._error(f"can't evaluate field {name} in type {type_name(receiver)}")

    # Functions

    def _function(
        self,
        dot: Value,
        function: Function,
        arguments: Sequence[Operand],
        final: tuple[Value, ...],
        *,
        whole: Command | Operand,
    ) -> Value:
        if function.name in LOGIC:
            return self._logic(dot, function.name, arguments, final)
        signature = FUNCTIONS[function.name]
        values = self._arguments(dot, function.name, signature, arguments, final)
        return self._call(function.name, signature, values, whole)

    def _logic(self, dot: Value, name: str, arguments: Sequence[Operand], final: tuple[Value, ...]) -> Value:
        if not arguments and not final:
            raise self._error(f"wrong number of args for {name}: want at least 1 got 0")
        value: Value = None
        for argument in arguments:
            value = self._argument(dot, argument, "any")
            if truth(value) is LOGIC[name]:
                return value
        return final[0] if final else value

    def _arguments(
        self, dot: Value, name: str, signature: Signature, arguments: Sequence[Operand], final: tuple[Value, ...]
    ) -> list[Value]:
        count = len(arguments) + len(final)
        fixed = len(signature.types) - signature.variadic
        if signature.variadic and count < fixed:
            raise self._error(f"wrong number of args for {name}: want at least {fixed} got {len(arguments)}")
        if not signature.variadic and count != fixed:
            raise self._error(f"wrong number of args for {name}: want {fixed} got {count}")
        types = (*signature.types, *signature.types[-1:] * count)
        values = [self._argument(dot, argument, type_) for argument, type_ in zip(arguments, types, strict=False)]
        return [*values, *(self._checked(value, types[len(arguments)]) for value in final)]

    def _argument(self, dot: Value, operand: Operand, type_: str) -> Value:
        self._at = operand
        match operand:
            case Literal() if type_ != "any":
                if type_ not in _EXPECTED:
                    raise self._error(f"can't handle {operand} for arg of type {type_}")
                if type_name(operand.value) != type_:
                    raise self._error(f"expected {_EXPECTED[type_]}; found {operand}")
                return operand.value
            case Nil() if type_ not in _NIL_TYPES:
                raise self._error(f"cannot assign nil to {type_}")
            case _:
                return self._checked(self._value(dot, operand), type_)

    def _checked(self, value: Value, type_: str) -> Value:
        """Check that a value can be passed for a parameter of this type, and return it."""
        if type_ == "any":
            return None if value is Missing.VALUE else value
        if value is Missing.VALUE:
            raise self._error(f"invalid value; expected {type_}")
        if type_ == "[]string" and is_list(value) and all(isinstance(item, str) for item in _items_of(value)):
            return value
        if type_name(value) != type_:
            raise self._error(f"wrong type for value; expected {type_}; got {type_name(value)}")
        return value

    def _call(self, name: str, signature: Signature, values: Sequence[Value], whole: Command | Operand | None) -> Value:
        try:
            return signature.call(*values)
        except CallError as error:
            self._at = whole
            raise self._error(f"error calling {name}: {error}") from error


_EXPECTED = {"string": "string", "int": "integer"}


def _items_of(value: Value) -> list[Value]:
    assert isinstance(value, Sequence)
    return list(value)
