"""The command `machine start`."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import click

from machine.cli.common import confirm, current_context, update_connection_option
from machine.cli.flags import Command
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

_OTHER_DEFAULT = """
Warning: The machine being started is not set as your default Podman connection.
As such, Podman commands may not work correctly.
"""

_ON_DEMAND = 'Machine "{name}" starts when its first client connects'

_API = """
API forwarding listening on: {socket}
You can connect Docker API clients by setting DOCKER_HOST using the
following command in your terminal session:

        export DOCKER_HOST='unix://{socket}'
"""


@click.command("start", cls=Command)
@names_argument
@click.option("--no-info", is_flag=True, help="Do not print hints.")
@click.option("-q", "--quiet", is_flag=True, help="Do not print progress and hints.")
@click.option(
    "--cold", is_flag=True, help="Boot a suspended machine. Its saved memory is lost, as if the power had been cut."
)
@click.option("--on-demand", is_flag=True, help="Start the machine when its first client connects, and not now.")
@click.option("--foreground", is_flag=True, help="Wait until the machine has stopped; SIGTERM and ^C stop it.")
@update_connection_option
def command(  # noqa: PLR0913, PLR0917  (one for each option)
    names: tuple[str, ...],
    everything: bool,
    no_info: bool,
    quiet: bool,
    cold: bool,
    on_demand: bool,
    foreground: bool,
    update_connection: bool | None,
) -> None:
    """Start existing machines and wait until Podman answers in them.

    \b
    Examples:
      machine start
      machine start --quiet box other
      machine start --on-demand box
      MACHINE_ACCEL=tcg machine start box
    """
    hints = not (no_info or quiet)
    selected = chosen(names, "start", everything=everything)
    several = len(selected) > 1
    if foreground and (everything or several):
        raise click.UsageError("--foreground takes a single machine")
    if update_connection and several:
        raise click.UsageError("--update-connection takes a single machine")
    if cold and (several or everything or foreground):
        raise click.UsageError("--cold takes a single machine, and no --foreground")
    if on_demand and cold:
        raise click.UsageError("--on-demand and --cold exclude each other")
    if on_demand and foreground:
        _run_on_demand(selected[0])
    elif on_demand:
        _wait_for_clients(selected)
    elif foreground:
        _run_in_foreground(selected[0], hints=hints, quiet=quiet, update_connection=update_connection)
    elif several:
        _start_several(selected, quiet=quiet)
    else:
        for name in selected:
            _start(name, hints=hints, quiet=quiet, cold=cold)
            offer_connection(name, update_connection)


def _wait_for_clients(names: list[str]) -> None:
    from machine.ops.start_on_demand import start_on_demand

    context = current_context()
    for name in names:
        start_on_demand(name, context)
        click.echo(_ON_DEMAND.format(name=name))


def _run_on_demand(name: str) -> None:
    from machine.ops.start_foreground import run_on_demand

    run_on_demand(name, current_context(), lambda: click.echo(_ON_DEMAND.format(name=name)))
    click.echo(f'Machine "{name}" stopped')


def _start(name: str, *, hints: bool, quiet: bool, cold: bool) -> None:
    from machine.ops.start import check_startable, start

    context = current_context()
    check_startable(name, context)
    if not quiet:
        click.echo(f'Starting machine "{name}"')
    for_each(
        [name],
        lambda name, report: start(name, context, report, cold=cold),
        lambda started: print_started(started, hints=hints),
        quiet=quiet,
    )


def _start_several(names: list[str], *, quiet: bool) -> None:
    from machine.ops.shared.interrupt import Interrupt
    from machine.ops.start import start

    context = current_context()
    interrupt = Interrupt()
    for_each(
        names,
        lambda name, report: start(name, context, report, interrupt),
        lambda started: print_started(started, hints=False),
        quiet=quiet,
        interrupt=interrupt,
    )


def _run_in_foreground(name: str, *, hints: bool, quiet: bool, update_connection: bool | None) -> None:
    from machine.cli.terminal import NoticeReporter, reporter
    from machine.ops.start_foreground import run

    with contextlib.ExitStack() as start:
        report = reporter(quiet=quiet)
        start.enter_context(report)

        def on_started(started: Started) -> None:
            start.close()  # no progress is shown while the machine runs
            print_started(started, hints=hints)
            # Do not ask, because nothing would watch the machine meanwhile.
            offer_connection(name, bool(update_connection))

        run(name, current_context(), report, on_started, later=NoticeReporter())
    click.echo(f'Machine "{name}" stopped')


def print_started(started: Started, *, hints: bool = True) -> None:
    name = started.config.name
    if hints:
        if not started.config.rootful and started.config.has_root_socket:
            click.echo(_ROOTLESS.format(name="" if name == DEFAULT_MACHINE else f" {name}"), nl=False)
        click.echo(_API.format(socket=started.api_socket))
    click.echo(f'Machine "{name}" started successfully')


def offer_connection(name: str, wanted: bool | None) -> None:
    """Make the machine Podman's default connection if `wanted` is True. If it is None, ask a user at a terminal."""
    if wanted is False or (wanted is None and not (sys.stdin and sys.stdin.isatty())):
        return
    from machine.ops.shared.default_connection import is_default, make_default

    context = current_context()
    if is_default(name, context):
        return
    if wanted is None:
        click.echo(_OTHER_DEFAULT, nl=False)
        if not confirm("Set the default Podman connection to this machine?"):
            return
    make_default(name, context)
