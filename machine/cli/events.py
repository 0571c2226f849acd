"""The command `machine events`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from machine.cli.common import current_context
from machine.cli.flags import Command

if TYPE_CHECKING:
    from machine.ops.events import Change


@click.command("events", cls=Command)
@click.option("--format", "format_", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(format_: str) -> None:
    """Print a line whenever a machine's state changes, until ^C.

    States are checked twice a second, so shorter states may be missed.

    \b
    Example:
      machine events --format json
    """
    from machine.ops.events import follow

    for change in follow(current_context()):
        click.echo(_as_json(change) if format_ == "json" else _as_text(change))


def _as_text(change: Change) -> str:
    reason = f" ({change.reason})" if change.reason else ""
    return (
        f"{change.moment:%Y-%m-%dT%H:%M:%SZ} {change.name} {change.before or 'absent'} -> "
        f"{change.after or 'absent'}{reason}"
    )


def _as_json(change: Change) -> str:
    from machine.ops.shared.times import rfc3339

    return json.dumps(
        {
            "Time": rfc3339(change.moment),
            "Name": change.name,
            "From": change.before,
            "To": change.after,
            "Reason": change.reason or "",
        }
    )
