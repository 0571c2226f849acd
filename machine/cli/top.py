"""The command `machine top`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from machine.cli.common import complete_machines, current_context, format_option
from machine.cli.flags import MAX_SECONDS, Command, WholeNumber
from machine.cli.formats import Form, Listing, form_of, listing_text
from machine.cli.tables import table
from machine.errors import BadInputError
from machine.model.units import bytes_size, human_duration

if TYPE_CHECKING:
    from machine.ops.top import Report, Usage
    from machine.ops.top_network import Traffic

FIELDS = (
    "Name", "State", "CPUPerc", "MemUsage", "MemLimit", "MemPerc", "DiskUsage", "DiskSize", "NetIO", "NetInput",
    "NetOutput", "BlockIO", "BlockInput", "BlockOutput", "PIDs", "Uptime",
)  # fmt: skip
_COLUMNS = (
    "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "DISK USAGE / SIZE", "NET IO", "BLOCK IO", "PIDS", "UPTIME",
)  # fmt: skip
_HEADINGS = {
    "CPUPerc": "CPU %", "MemUsage": "MEM USAGE / LIMIT", "MemPerc": "MEM %", "DiskUsage": "DISK USAGE / SIZE",
    "NetIO": "NET IO", "BlockIO": "BLOCK IO", "PIDs": "PIDS",
}  # fmt: skip
# If a terminal is too narrow for all columns, the last of these give way.
_BY_IMPORTANCE = (
    "NAME", "CPU %", "MEM USAGE / LIMIT", "NET IO", "BLOCK IO", "PIDS", "UPTIME", "DISK USAGE / SIZE", "MEM %",
)  # fmt: skip
_PADDING = 2
_UNKNOWN = "--"
_INTERVAL_S = 5


@click.command("top", cls=Command)
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete_machines)
@click.option("-a", "--all", "everything", is_flag=True, help="Also show machines that are stopped.")
@format_option()
@click.option(
    "-i",
    "--interval",
    type=WholeNumber(maximum=MAX_SECONDS),
    default=_INTERVAL_S,
    show_default=True,
    metavar="SECONDS",
    help="Time between two reports.",
)
@click.option("--no-reset", is_flag=True, help="On a terminal, print each report below the last one.")
@click.option("--no-stream", is_flag=True, help="Print one report and exit.")
def command(
    names: tuple[str, ...], everything: bool, format_: str | None, interval: int, no_reset: bool, no_stream: bool
) -> None:
    """Show the resource usage of machines live. Without names, show all running machines.

    CPU and memory are what QEMU and its helpers use. 100 % is one CPU of the host.
    DISK USAGE leaves out the image that the machine is based on. NET IO is the
    traffic of the guest's network cards, or -- if the guest does not answer. Of a
    host over SSH, no other resources are measured.

    \b
    Examples:
      machine top
      machine top --no-stream --format json box
      machine top --format 'table {{.Name}}\\t{{.CPUPerc}}\\t{{.MemUsage}}'
    """
    if names and everything:
        raise click.UsageError("use either names or --all, not both")
    if interval < 1:
        raise BadInputError("invalid interval, must be a positive number greater zero")
    form = form_of(format_, default="table", json_of_all=False)
    from machine.cli.terminal import can_draw

    is_live = can_draw(sys.stdout) and not (no_reset or no_stream or form is Form.JSON)
    from machine.ops.top import follow

    reports = follow(names, current_context(), interval, everything=everything, once=no_stream)
    if is_live:
        _redraw(reports, format_, is_table=form is Form.DEFAULT)
    else:
        _print(reports, format_)


def _print(reports: Iterator[Report], format_: str | None) -> None:
    """Print each report. If a record cannot be read, print its error only after the first report."""
    told: set[str] = set()
    for report in reports:
        click.echo(listing_text(_listing(report.usages), format_), nl=False)
        errors = _errors(report)
        for error in errors:
            if error not in told:
                click.echo(error, err=True)
        told.update(errors)


def _errors(report: Report) -> list[str]:
    return [f"Error: {broken.error.line}" for broken in report.broken]


def _redraw(reports: Iterator[Report], format_: str | None, *, is_table: bool) -> None:
    """Draw each report on the terminal in place of the previous report."""
    from rich.live import Live
    from rich.text import Text

    live_table = LiveTable()
    with Live(auto_refresh=False) as live:
        for report in reports:
            if is_table:
                text = live_table.text([row(usage) for usage in report.usages], live.console.width)
            else:
                text = listing_text(_listing(report.usages), format_)
            lines = [text.rstrip("\n"), *_errors(report)]
            live.update(Text("\n".join(lines), overflow="fold"), refresh=True)


class LiveTable:
    """Tables that fit the terminal. A column never becomes narrower, so that other columns do not come and go."""

    def __init__(self) -> None:
        self._widths = {column: len(column) for column in _COLUMNS}

    def text(self, rows: Sequence[Sequence[str]], room: int) -> str:
        """Return a table with the columns that fit into `room` characters, and below it the names of the others."""
        for cells in rows:
            for column, cell in zip(_COLUMNS, cells, strict=True):
                self._widths[column] = max(self._widths[column], len(cell))
        shown = fitting_columns(self._widths, room)
        picked = [
            [cells[_COLUMNS.index(column)].ljust(self._widths[column]) for column in shown]
            for cells in (_COLUMNS, *rows)
        ]
        hidden = [column for column in _COLUMNS if column not in shown]
        lines = table(picked, width=0, padding=_PADDING)
        return lines + (f"Too wide for this terminal: {', '.join(hidden)}\n" if hidden else "")


def fitting_columns(widths: Mapping[str, int], room: int) -> list[str]:
    """Return the columns that fit beside each other. The least important columns are left out first (pure)."""
    chosen: set[str] = set()
    left = room + _PADDING
    for column in _BY_IMPORTANCE:
        needed = widths[column] + _PADDING
        if needed <= left or not chosen:
            chosen.add(column)
            left -= needed
    return [column for column in _COLUMNS if column in chosen]


def _listing(usages: Sequence[Usage]) -> Listing:
    return Listing(
        name="top",
        type_name="machine.Usage",
        columns=_COLUMNS,
        rows=lambda: [row(usage) for usage in usages],
        fields=FIELDS,
        items=lambda: [item(usage) for usage in usages],
        documents=lambda: [as_json(usage) for usage in usages],
        headings=_HEADINGS,
    )


def row(usage: Usage) -> tuple[str, ...]:
    """Return the cells of the machine's row in the table."""
    return (
        usage.name,
        _percent(usage.cpu_percent),
        f"{_size(usage.memory_bytes)} / {bytes_size(usage.memory_limit_bytes)}",
        _percent(usage.memory_percent),
        f"{_size(usage.disk_bytes)} / {bytes_size(usage.disk_size_bytes)}",
        _traffic(usage.network),
        _traffic(usage.block),
        _UNKNOWN if usage.processes is None else str(usage.processes),
        _UNKNOWN if usage.uptime_s is None else human_duration(usage.uptime_s),
    )


def _percent(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.2f}%"


def _size(count: int | None) -> str:
    return _UNKNOWN if count is None else bytes_size(count)


def _traffic(traffic: Traffic) -> str:
    return f"{_size(traffic.received)} / {_size(traffic.sent)}"


def item(usage: Usage) -> dict[str, Any]:
    """Return the fields for templates. They are the fields of the JSON, formatted as in the table."""
    name, cpu, memory, memory_share, disk, network, block, processes, uptime = row(usage)
    words = {
        "Name": name, "CPUPerc": cpu, "MemUsage": memory, "MemPerc": memory_share, "DiskUsage": disk,
        "NetIO": network, "BlockIO": block, "PIDs": processes, "Uptime": uptime,
        "MemLimit": bytes_size(usage.memory_limit_bytes), "DiskSize": bytes_size(usage.disk_size_bytes),
        "NetInput": _size(usage.network.received),
        "NetOutput": _size(usage.network.sent),
        "BlockInput": _size(usage.block.received),
        "BlockOutput": _size(usage.block.sent),
    }  # fmt: skip
    return {**as_json(usage), **words}


def as_json(usage: Usage) -> dict[str, Any]:
    """Return the fields for JSON. Sizes are in bytes, times are in seconds, and an unknown value is null."""
    return {
        "Name": usage.name,
        "State": usage.state,
        "CPUPerc": _rounded(usage.cpu_percent),
        "MemUsage": usage.memory_bytes,
        "MemLimit": usage.memory_limit_bytes,
        "MemPerc": _rounded(usage.memory_percent),
        "DiskUsage": usage.disk_bytes,
        "DiskSize": usage.disk_size_bytes,
        "NetInput": usage.network.received,
        "NetOutput": usage.network.sent,
        "BlockInput": usage.block.received,
        "BlockOutput": usage.block.sent,
        "PIDs": usage.processes,
        "Uptime": None if usage.uptime_s is None else int(usage.uptime_s),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
