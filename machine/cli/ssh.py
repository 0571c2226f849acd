"""The command `machine ssh`."""

from __future__ import annotations

import click

from machine.cli.common import complete_machines, current_context
from machine.cli.flags import Command


@click.command("ssh", cls=Command, context_settings={"allow_interspersed_args": False})
@click.option("--username", help="Log in as this user instead of the machine's own.")
@click.option(
    "-n",
    "no_input",
    is_flag=True,
    help="Read standard input from /dev/null, so that the command does not consume a shell loop's input.",
)
@click.argument(
    "words",
    nargs=-1,
    type=click.UNPROCESSED,
    metavar="[NAME] [COMMAND [ARG]...]",
    shell_complete=complete_machines,
)
def command(username: str | None, no_input: bool, words: tuple[str, ...]) -> None:
    """Open a shell in a running machine, or run a command there and return its exit status.

    \b
    Examples:
      machine ssh
      machine ssh box sudo systemctl status podman.socket
      while read -r x; do machine ssh -n box systemctl status "$x"; done <units
    """
    from machine.cli.terminal import reporter
    from machine.ops.ssh import read_words, run, session
    from machine.ops.wake import wake

    context = current_context()
    name, rest = read_words(words, context)
    with reporter(quiet=False) as report:
        wake(name, context, report)
    opened = session(name, username, rest, context, no_input=no_input)
    if not rest:
        click.echo(f"Connecting to vm {name}. To close connection, use `~.` or `exit`")
    raise click.exceptions.Exit(run(opened, context))
