"""The command `machine info`."""

from __future__ import annotations

import click

from machine.cli.common import current_context
from machine.cli.flags import Command
from machine.cli.formats import Form, form_of, json_text, parse_template, render

# Podman's type names, for error messages.
_TYPES = {"Host": "*entities.MachineHostInfo", "Version": "define.Version"}


@click.command("info", cls=Command)
@click.option("-f", "--format", "format_", metavar="FORMAT", help="yaml, json or a Go template. [default: yaml]")
def command(format_: str | None) -> None:
    """Show QEMU, its accelerator and the directories on this host.

    \b
    Example:
      machine info --format '{{.Machine.Accelerator.Name}}'
    """
    from machine.ops.info import info

    form = form_of(format_, default="yaml")
    document = info(current_context())
    match form:
        case Form.DEFAULT:
            from machine.cli.yaml import yaml_text

            click.echo(yaml_text(document), nl=False)
        case Form.JSON:
            click.echo(json_text(document, 2))
        case Form.TEMPLATE:
            from machine.gotemplate import structure

            assert format_ is not None
            template = parse_template("info", format_, ranged=False)
            click.echo(render(template, structure(document, "entities.MachineInfo", _TYPES)), nl=False)
