"""The commands `machine protect` and `machine unprotect`."""

from __future__ import annotations

import click

from machine.cli.common import current_context
from machine.cli.flags import Command
from machine.cli.many import chosen, for_each, names_argument


@click.command("protect", cls=Command)
@names_argument
def command(names: tuple[str, ...], everything: bool) -> None:
    """Protect machines from removal by rm and reset.

    \b
    Examples:
      machine protect box
      machine protect --all
    """
    _protect(chosen(names, "protect", everything=everything), protected=True)


@click.command("unprotect", cls=Command)
@names_argument
def unprotect(names: tuple[str, ...], everything: bool) -> None:
    """Allow machines to be removed again.

    \b
    Example:
      machine unprotect box && machine rm box
    """
    _protect(chosen(names, "unprotect", everything=everything), protected=False)


def _protect(names: list[str], *, protected: bool) -> None:
    from machine.ops.protect import protect as change

    context = current_context()
    for_each(names, lambda name, _: change(name, context, protected=protected), lambda _: None, in_turn=True)
