"""The command `machine env`."""

from __future__ import annotations

import os

import click

from machine.cli.common import current_context, name_argument
from machine.cli.flags import Command
from machine.model.names import DEFAULT_MACHINE
from machine.model.shell import ALIASES, Shell


@click.command("env", cls=Command)
@name_argument()
@click.option(
    "--shell",
    type=click.Choice([*(shell.value for shell in Shell), *ALIASES]),
    help="The shell to print commands for. [default: $SHELL]",
)
@click.option("-u", "--unset", is_flag=True, help="Print commands that unset the variables.")
@click.option(
    "--rootful/--rootless",
    default=None,
    help="Use the rootful or the rootless socket. [default: the machine's setting]",
)
def command(name: str, shell: str | None, unset: bool, rootful: bool | None) -> None:
    """Print environment variables that point Docker and Podman clients to a machine.

    \b
    Example:
      eval "$(machine env box)"
    """
    from machine.ops.env import env_command, variables

    chosen = Shell(ALIASES.get(shell, shell)) if shell else Shell.of(os.environ.get("SHELL", ""))
    found = variables(name, current_context(), rootful=rootful)
    words = [env_command(name, default=DEFAULT_MACHINE)]
    if rootful is not None:
        words.append("--rootful" if rootful else "--rootless")
    if shell:
        words.append(f"--shell {shell}")
    if unset:
        words.append("--unset")
    click.echo(chosen.script(found, " ".join(words), unset=unset), nl=False)
