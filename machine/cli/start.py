"""machine start"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from machine.cli.common import context, name_argument

if TYPE_CHECKING:
    from machine.ops.start import Started

_ROOTLESS = """
This machine is currently configured in rootless mode. If your containers
require root permissions (e.g. ports < 1024), or if you run into compatibility
issues with non-podman clients, use the connection of root instead:

	podman --connection {connection}
"""

_API = """
API forwarding listening on: {socket}
You can connect Docker API clients by setting DOCKER_HOST using the
following command in your terminal session:

        export DOCKER_HOST='unix://{socket}'
"""


@click.command("start")
@name_argument()
@click.option("--no-info", is_flag=True, help="Leave out the hints.")
@click.option("-q", "--quiet", is_flag=True, help="Print only that the machine has started.")
def command(name: str, no_info: bool, quiet: bool) -> None:
    """Start an existing machine, and wait until its Podman answers."""
    from machine.cli.terminal import reporter
    from machine.ops.start import check_startable, start
    from machine.report import SilentReporter

    here = context()
    check_startable(name, here)
    if quiet:
        started = start(name, here, SilentReporter())
    else:
        click.echo(f'Starting machine "{name}"')
        with reporter() as report:
            started = start(name, here, report)
    print_started(started, hints=not (no_info or quiet))


def print_started(started: Started, *, hints: bool = True) -> None:
    name = started.config.name
    if hints:
        if not started.config.rootful:
            click.echo(_ROOTLESS.format(connection=f"{name}-root"), nl=False)
        click.echo(_API.format(socket=started.api_socket))
    click.echo(f'Machine "{name}" started successfully')
