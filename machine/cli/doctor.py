"""The command `machine doctor`."""

from __future__ import annotations

from collections.abc import Sequence

import click

from machine.cli.common import current_context, format_option
from machine.cli.flags import Command
from machine.cli.formats import Form, Listing, form_of, print_listing
from machine.model.doctor_check import Check, Status, is_ready

FIELDS = ("Name", "Status", "Finding", "Remedy")
_NOT_READY = 1
_POINTER = "See the documentation for each check: troubleshooting#doctor"


@click.command("doctor", cls=Command)
@format_option()
def command(format_: str | None) -> None:
    """Check whether this host can run machines. Nothing is changed or downloaded.

    The exit status is 0 if machines can be made and started, else 1. A failure
    keeps machines from running. A warning does not.

    \b
    Examples:
      machine doctor
      machine doctor --format '{{.Status}} {{.Name}}'
    """
    from machine.ops.doctor import doctor

    form = form_of(format_, default="table")
    checks = doctor(current_context())
    if form is Form.DEFAULT:
        click.echo(report(checks))
    else:
        documents = [item(check) for check in checks]
        print_listing(
            Listing(
                name="doctor",
                type_name="machine.Check",
                columns=(),
                rows=list,
                fields=FIELDS,
                items=lambda: documents,
                documents=lambda: documents,
            ),
            format_,
        )
    if not is_ready(checks):
        raise click.exceptions.Exit(_NOT_READY)


def report(checks: Sequence[Check]) -> str:
    """Return the text of all checks. A remedy follows each check that has one. The last line is the verdict.

    If there are remedies, the line before names the page of the documentation that explains the checks.
    """
    first, second = max(map(len, Status)) + 2, max(len(check.name) for check in checks) + 2
    lines = []
    for check in checks:
        lines.append(f"{check.status:{first}}{check.name:{second}}{check.finding}")
        if check.remedy:
            lines.append(f"{'':{first + second}}remedy: {check.remedy}")
    pointer = [_POINTER] if any(check.remedy for check in checks) else []
    return "\n".join([*lines, "", *pointer, _verdict(checks)])


def _verdict(checks: Sequence[Check]) -> str:
    counts = {status: sum(check.status is status for check in checks) for status in Status}
    failures, warnings = (_plural(counts[status], status.value) for status in (Status.FAILURE, Status.WARNING))
    if not is_ready(checks):
        return f"Machines cannot be made and started on this host: {failures}, {warnings}"
    return f"Machines can be made and started on this host: {warnings}"


def _plural(count: int, word: str) -> str:
    return f"{count or 'no'} {word}{'' if count == 1 else 's'}"


def item(check: Check) -> dict[str, str]:
    return dict(zip(FIELDS, (check.name, check.status.value, check.finding, check.remedy or ""), strict=True))
