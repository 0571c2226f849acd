"""What the commands share: the name argument, its completion, and who waits at the other end."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from machine.model.names import DEFAULT_MACHINE

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from machine.ops.context import Context


def context() -> Context:
    from machine.ops.context import current_context

    return current_context()


def complete_machines(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    from click.shell_completion import CompletionItem

    from machine.ops.names import all_names

    return [CompletionItem(name) for name in all_names(context()) if name.startswith(incomplete)]


def name_argument() -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The optional NAME that every command of podman machine has."""
    return click.argument("name", default=DEFAULT_MACHINE, shell_complete=complete_machines)


def confirm(question: str) -> bool:
    """Podman's way of asking: only y means yes, and no answer at all is an error."""
    click.echo(f"{question} [y/N] ", nl=False)
    answer = sys.stdin.readline() if sys.stdin else ""  # None where it was closed
    if not answer:
        raise click.ClickException("EOF")
    return answer.strip().lower() == "y"
