"""Run a command on several machines at once, and print a line for each. For one machine, the output is podman's."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from machine.cli.common import complete_machines, current_context
from machine.errors import EXIT_ERROR, MachineError, evidence_of, line_of
from machine.model.names import DEFAULT_MACHINE

if TYPE_CHECKING:
    from machine.ops.shared.interrupt import Interrupt
    from machine.report import Reporter


class _HasError(Protocol):
    """The result of an operation on a machine."""

    @property
    def name(self) -> str: ...

    @property
    def error(self) -> Exception | None: ...


_T = TypeVar("_T")
_R = TypeVar("_R", bound=_HasError)


def names_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the arguments `[NAME]...` and the option `--all`."""
    for decorate in (
        click.option("-a", "--all", "everything", is_flag=True, help="All machines that the command applies to."),
        click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete_machines),
    ):
        command = decorate(command)
    return command


def chosen(names: tuple[str, ...], verb: str, *, everything: bool) -> list[str]:
    """Return the names of the machines to act on, each once.

    With `everything`, these are all machines that the verb applies to. Otherwise, these are the `names`, or the default
    machine if there are none.

    Raises:
        UsageError: `everything` is set, although there are names.
    """
    if everything:
        if names:
            raise click.UsageError("use either names or --all, not both")
        from machine.ops.shared.parallel import machines_for

        return machines_for(verb, current_context())
    return list(dict.fromkeys(names or (DEFAULT_MACHINE,)))


def for_each(
    names: list[str],
    operation: Callable[[str, Reporter], _T],
    print_result: Callable[[_T], None],
    *,
    quiet: bool = False,
    steps: bool = True,
    in_turn: bool = False,
    interrupt: Interrupt | None = None,
) -> None:
    """Run an operation on every machine, and print the result for each machine.

    If the operation fails for one machine, the others are still done, and the exit status is 125. With `in_turn`, which
    is for quick operations, the machines are done one after another, in the order of the names. With `quiet`, the
    operation's progress is not printed. Without `steps`, its notices are printed, but not its steps.
    """
    if len(names) == 1:
        print_result(_run_one(names[0], operation, quiet=quiet, steps=steps))
        return
    from machine.cli.terminal import NamedReporter
    from machine.ops.shared.parallel import MAX_AT_ONCE, each
    from machine.report import SilentReporter

    failed = False
    with contextlib.closing(
        each(
            names,
            lambda name: operation(name, SilentReporter() if quiet else NamedReporter(name, steps=steps)),
            interrupt,
            1 if in_turn else MAX_AT_ONCE,
        )
    ) as results:
        for result in results:
            if result.error is not None:
                print_failure(result.name, result.error)
                failed = True
            else:
                print_result(result.value)  # type: ignore[arg-type]  # there is a value where there is no error
    if failed:
        raise click.exceptions.Exit(EXIT_ERROR)


def change_each(names: list[str], operation: Callable[[str, Reporter], object], done: str) -> None:
    """Run an operation on every machine as `for_each` does, and print that the machine was, for example, `killed`."""

    def change(name: str, report: Reporter) -> str:
        operation(name, report)
        return name

    for_each(names, change, lambda name: click.echo(f'Machine "{name}" {done} successfully'))


def collect(running: Generator[_R, None, None]) -> dict[str, _R]:
    """Run operations on machines to their ends. Print the failures, and return the results by the machines' names."""
    results = {}
    with contextlib.closing(running):
        for result in running:
            results[result.name] = result
            if result.error is not None:
                print_failure(result.name, result.error)
    return results


def exit_if_failed(results: Iterable[_HasError]) -> None:
    """End the program with status 125 if one of the operations has failed."""
    if any(result.error is not None for result in results):
        raise click.exceptions.Exit(EXIT_ERROR)


def _run_one(name: str, operation: Callable[[str, Reporter], _T], *, quiet: bool, steps: bool) -> _T:
    from machine.cli.terminal import reporter
    from machine.report import SilentReporter

    if quiet:
        return operation(name, SilentReporter())
    with reporter(quiet=not steps) as report:
        return operation(name, report)


def print_failure(name: str, error: Exception) -> None:
    """Print the error of one of several machines. If the error's text lacks the machine's name, put it in front.

    An unexpected error is raised instead.
    """
    if isinstance(error, MachineError):
        text, details = error.line, evidence_of(error)
    elif isinstance(error, OSError):
        text, details = line_of(error), ()
    else:
        raise error
    line = " ".join(text.splitlines())
    click.echo(f"Error: {line}" if name in line else f"Error: {name}: {line}", err=True)
    for detail in details:
        click.echo(f"  {detail}", err=True)
