"""The command `machine wait`."""

from __future__ import annotations

import click

from machine.cli.common import current_context, name_argument
from machine.cli.flags import MAX_SECONDS, Command, WholeNumber

_WAIT_S = 600


@click.command("wait", cls=Command)
@name_argument()
@click.option(
    "--for",
    "condition",
    type=click.Choice(["running", "api", "stopped", "suspended"]),
    default="running",
    show_default=True,
    help="What to wait for; api means an answer on the machine's API socket.",
)
@click.option(
    "--timeout",
    type=WholeNumber(minimum=0, maximum=MAX_SECONDS),
    default=_WAIT_S,
    show_default=True,
    metavar="SECONDS",
    help="Fail if this has not happened after so many seconds.",
)
def command(name: str, condition: str, timeout: int) -> None:
    """Wait until a machine is running, answers, has stopped or is suspended.

    \b
    Examples:
      machine wait --for api box && podman --connection box ps
      machine wait --for stopped --timeout 60 box
    """
    from machine.ops.wait import Condition, wait

    wait(name, Condition(condition), timeout, current_context())
