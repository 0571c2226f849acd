"""machine start"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from machine.cli.common import context
from machine.cli.many import chosen, for_each, names_argument
from machine.model.names import DEFAULT_MACHINE

if TYPE_CHECKING:
    from machine.ops.start import Started

_ROOTLESS = """
This machine is currently configured in rootless mode. If your containers
require root permissions (e.g. ports < 1024), or if you run into compatibility
issues with non-podman clients, you can switch using the following command:

	machine set --rootful{name}
"""

_API = """
API forwarding listening on: {socket}
You can connect Docker API clients by setting DOCKER_HOST using the
following command in your terminal session:

        export DOCKER_HOST='unix://{socket}'
"""


@click.command("start")
@names_argument
@click.option("--no-info", is_flag=True, help="Leave out the hints.")
@click.option("-q", "--quiet", is_flag=True, help="Print only that the machine has started.")
def command(names: tuple[str, ...], everything: bool, no_info: bool, quiet: bool) -> None:
    """Start existing machines, and wait until their Podman answers.

    \b
    Examples:
      machine start
      machine start --quiet box other
      MACHINE_ACCEL=tcg machine start box
    """
    from machine.ops.many import Interrupt
    from machine.ops.start import check_startable, start

    here = context()
    several = chosen(names, "start", everything=everything)
    interrupt = Interrupt() if len(several) > 1 else None
    if not interrupt:
        for name in several:
            check_startable(name, here)
            if not quiet:
                click.echo(f'Starting machine "{name}"')
    for_each(
        several,
        lambda name, report: start(name, here, report, interrupt),
        lambda started: print_started(started, hints=not (no_info or quiet or interrupt)),
        quiet=quiet,
        interrupt=interrupt,
    )


def print_started(started: Started, *, hints: bool = True) -> None:
    name = started.config.name
    if hints:
        if not started.config.rootful:
            click.echo(_ROOTLESS.format(name="" if name == DEFAULT_MACHINE else f" {name}"), nl=False)
        click.echo(_API.format(socket=started.api_socket))
    click.echo(f'Machine "{name}" started successfully')
