"""Parse command lines like Podman, which uses Go's pflag and cobra. Declarations, types and help are still click's.

Options may come before and after arguments. A boolean option is one word, such as `--rootful`, `--rootful=false` or
`-q`. The value of an option, even of a short one, follows a space or `=`. Error messages are those of pflag and cobra,
because scripts match them.
"""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import click

# The spellings that Go's strconv.ParseBool accepts.
_BOOLEANS = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}

# Podman's levels, and the levels of the logging module that they stand for here.
_LOG_LEVELS = {
    "trace": "DEBUG", "debug": "DEBUG", "info": "INFO", "warn": "WARNING", "warning": "WARNING", "error": "ERROR",
    "fatal": "CRITICAL", "panic": "CRITICAL",
}  # fmt: skip


_MAX_DIGITS = 18
_MAX_NUMBER = 10**_MAX_DIGITS - 1  # less than 2**63

MAX_SECONDS = 366 * 24 * 60 * 60
"""The longest time that an option accepts. Python and the kernel cannot wait longer than a few hundred years."""


def log_to_stderr(level: str) -> None:
    """Log messages of this level and of higher levels to stderr. The level is a name of the logging module."""
    import logging

    logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger().setLevel(level)


def _take_log_level(ctx: click.Context, param: click.Parameter, value: str | None) -> None:  # noqa: ARG001
    if value is None:
        return
    if value.lower() not in _LOG_LEVELS:
        raise click.ClickException(f'Log Level "{value}" is not supported, choose from: {", ".join(_LOG_LEVELS)}')
    log_to_stderr(_LOG_LEVELS[value.lower()])


# Podman accepts this option with every command, and people use it whenever they report a problem.
_LOG_LEVEL = click.Option(["--log-level"], hidden=True, expose_value=False, callback=_take_log_level)


class Command(click.Command):
    """A command that parses its command line as pflag does."""

    def get_short_help_str(self, limit: int = 0) -> str:  # noqa: ARG002
        """Return the first sentence of the command's help. Ignore `limit`, because a group's help wraps long lines."""
        return super().get_short_help_str(limit=len(self.help or "") + 1)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), _LOG_LEVEL]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return _parse(self, super().parse_args, ctx, args)


class Group(click.Group):
    """A group of commands. It parses command lines as pflag does, and suggests names similar to an unknown command."""

    command_class = Command
    group_class = type

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), _LOG_LEVEL]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return _parse(self, super().parse_args, ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        command = self.get_command(ctx, args[0])
        if command is None and ctx.resilient_parsing:  # shell completion must not fail
            return super().resolve_command(ctx, args)
        if command is None:
            from machine.model.names import did_you_mean

            near = did_you_mean(args[0], self.known_words(ctx))
            raise click.UsageError(f"unrecognized command `{ctx.command_path} {args[0]}`{near}", ctx)
        return command.name, command, args[1:]

    def known_words(self, ctx: click.Context) -> list[str]:
        """Return the names and aliases of the commands in this group."""
        return self.list_commands(ctx)


class WholeNumber(click.types.IntParamType):
    """The type of an option whose value is a decimal integer. If there is no `minimum`, `ops` checks the value."""

    def __init__(self, *, minimum: int = -_MAX_NUMBER, maximum: int = _MAX_NUMBER) -> None:
        self._minimum = minimum
        self._maximum = maximum

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401
        text = str(value)
        if param is None:
            return int(text)
        if not re.fullmatch(r"-?[0-9]+", text):
            raise _invalid(text, param, "must be a whole number", ctx)
        # Python converts no number of thousands of digits.
        digits = text.removeprefix("-").lstrip("0") or "0"
        number = int(digits[: _MAX_DIGITS + 1]) * (-1 if text.startswith("-") else 1)
        if number < self._minimum:
            raise _invalid(text, param, f"must be at least {self._minimum}", ctx)
        if number > self._maximum:
            raise _invalid(text, param, f"must be at most {self._maximum}", ctx)
        return number


WHOLE_NUMBER = WholeNumber()


def _parse(
    command: click.Command,
    parse: Callable[[click.Context, list[str]], list[str]],
    ctx: click.Context,
    args: list[str],
) -> list[str]:
    is_group = isinstance(command, click.Group)
    if ctx.resilient_parsing or (is_group and not args):  # shell completion parses incomplete lines
        return parse(ctx, args)
    line = _Line(command, ctx)
    line.read(args)
    if not is_group and "--help" not in line.options:
        _check_count(command, len(line.arguments), ctx)
    rest = parse(ctx, [*line.options, "--", *line.arguments])
    ctx.params.update(line.switches)
    return rest


class _Line:
    """A parsed command line.

    `options` has the options as `--name=value`, which click cannot misread. `switches` has the values of boolean
    options.
    """

    def __init__(self, command: click.Command, ctx: click.Context) -> None:
        self.options: list[str] = []
        self.switches: dict[str, bool] = {}
        self.arguments: list[str] = []
        self._ctx = ctx
        self._known: dict[str, tuple[click.Option, bool]] = {}
        for param in command.get_params(ctx):
            if isinstance(param, click.Option):
                self._known |= dict.fromkeys(param.opts, (param, True))
                self._known |= dict.fromkeys(param.secondary_opts, (param, False))

    def read(self, args: Sequence[str]) -> None:
        words = deque(args)
        while words:
            word = words.popleft()
            if word == "--":
                break
            if not word.startswith("-") or word == "-":
                self.arguments.append(word)
                if not self._ctx.allow_interspersed_args:
                    break
            elif self._ctx.ignore_unknown_options and word.partition("=")[0] not in self._known:
                self.arguments.append(word)
            elif word.startswith("--"):
                self._read_long(word, words)
            else:
                self._read_short(word[1:], words)
        self.arguments += words

    def _read_long(self, word: str, words: deque[str]) -> None:
        name, equals, value = word.partition("=")
        if len(name) == 2 or name.startswith("---"):
            raise click.UsageError(f"bad flag syntax: {word}", self._ctx)
        if name not in self._known:
            from machine.model.names import did_you_mean

            known = [word for word, (param, _) in self._known.items() if word.startswith("--") and not param.hidden]
            raise click.UsageError(f"unknown flag: {name}{did_you_mean(name, known)}", self._ctx)
        if equals or not self._needs_value(name):
            self._take(name, value if equals else None)
        elif words:
            self._take(name, words.popleft())
        else:
            raise click.UsageError(f"flag needs an argument: {name}", self._ctx)

    def _read_short(self, letters: str, words: deque[str]) -> None:
        while letters:
            name, rest = f"-{letters[0]}", letters[1:]
            if name not in self._known:
                raise click.UsageError(f"unknown shorthand flag: '{letters[0]}' in -{letters}", self._ctx)
            if rest.startswith("=") and len(rest) > 1:
                self._take(name, rest[1:])
                return
            if not self._needs_value(name):
                self._take(name, None)
                letters = rest
                continue
            if not rest and not words:
                raise click.UsageError(f"flag needs an argument: '{letters[0]}' in -{letters}", self._ctx)
            self._take(name, rest or words.popleft())
            return

    def _needs_value(self, name: str) -> bool:
        param, _ = self._known[name]
        return not (param.is_flag or param.count)

    def _take(self, name: str, value: str | None) -> None:
        """Take in the option `name`. `value` is None if the option was given without a value."""
        param, positive = self._known[name]
        long = max(param.opts, key=len)
        if self._needs_value(name):
            self.options.append(f"{long}={value}")
            return
        if value is not None and value not in _BOOLEANS:
            raise _invalid(value, param, "must be true or false", self._ctx)
        on = value is None or _BOOLEANS[value]
        if param.is_bool_flag and param.expose_value:
            assert param.name is not None
            self.switches[param.name] = on is positive
        elif on:
            self.options.append(long)


def _check_count(command: click.Command, count: int, ctx: click.Context) -> None:
    """Check that the command has been given the right number of arguments."""
    arguments = [param for param in command.get_params(ctx) if isinstance(param, click.Argument)]
    minimum = sum(argument.required for argument in arguments)
    maximum = None if any(argument.nargs == -1 for argument in arguments) else len(arguments)
    if count < minimum or (maximum is not None and count > maximum):
        raise click.UsageError(_count_problem(minimum, maximum, count, ctx.command_path), ctx)


def _count_problem(minimum: int, maximum: int | None, count: int, command_path: str) -> str:
    if maximum is None:
        return f"requires at least {minimum} arg(s), only received {count}"
    if maximum == 0:
        return f"`{command_path}` takes no arguments"
    if minimum == maximum:
        return f"accepts {maximum} arg(s), received {count}"
    if minimum:
        return f"accepts between {minimum} and {maximum} arg(s), received {count}"
    return f"accepts at most {maximum} arg(s), received {count}"


def _invalid(value: str, param: click.Parameter, reason: str, ctx: click.Context | None) -> click.UsageError:
    names = ", ".join(sorted(param.opts, key=len))
    return click.UsageError(f'invalid argument "{value}" for "{names}" flag: {reason}', ctx)
