"""The command `machine config`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from machine.cli.common import confirm, current_context
from machine.cli.flags import Group
from machine.cli.tables import table

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from machine.model.settings import EffectiveSetting


def _complete_keys(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    from click.shell_completion import CompletionItem

    from machine.model.settings import RULES

    return [CompletionItem(key, help=rule.meaning) for key, rule in RULES.items() if key.startswith(incomplete)]


def _flag_name(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:  # noqa: ARG001
    """Return the name of a setting. A name that is written like a flag, such as `disk-size`, gets underscores."""
    return value.replace("-", "_") if value else value


@click.group("config", cls=Group)
def command() -> None:
    """Show and change the defaults of new machines.

    A value is taken from the first of these that has it: flags, the environment, config.toml, containers.conf, built-in
    defaults.

    \b
    Examples:
      machine config set memory 4096
      machine config get
    """


@command.command("get")
@click.argument("key", required=False, callback=_flag_name, shell_complete=_complete_keys)
@click.option("--format", "format_", type=click.Choice(["table", "json"]), default="table", show_default=True)
def get(key: str | None, format_: str) -> None:
    """Print the value of a setting, or all settings and where their values come from.

    \b
    Examples:
      machine config get
      machine config get memory
    """
    from machine.model.settings import value_text
    from machine.ops.config import all_settings
    from machine.ops.config import get as get_setting

    if key:
        setting = get_setting(key, current_context())
        click.echo(json.dumps(_as_json(setting), indent=2) if format_ == "json" else value_text(setting.value))
        return
    settings = all_settings(current_context())
    if format_ == "json":
        click.echo(json.dumps([_as_json(setting) for setting in settings], indent=2))
        return
    rows = [(setting.key, value_text(setting.value, ", ") or "-", setting.origin) for setting in settings]
    click.echo(table([("KEY", "VALUE", "ORIGIN"), *rows]), nl=False)


def _as_json(setting: EffectiveSetting) -> dict[str, object]:
    return {"Key": setting.key, "Value": setting.value, "Origin": setting.origin}


@command.command("set", context_settings={"ignore_unknown_options": True})  # so that -1 counts as a value
@click.argument("key", callback=_flag_name, shell_complete=_complete_keys)
@click.argument("values", nargs=-1, required=True, metavar="VALUE...", type=click.UNPROCESSED)
def set_(key: str, values: tuple[str, ...]) -> None:
    """Set a default in config.toml. `volumes` takes several values, or "" for none.

    \b
    Examples:
      machine config set memory 4096
      machine config set image boot2podman
    """
    from machine.ops.config import set_value

    set_value(key, values, current_context())


@command.command("unset")
@click.argument("key", shell_complete=_complete_keys)  # any key, since the file may contain a misspelt one
def unset(key: str) -> None:
    """Remove a default from config.toml.

    \b
    Example:
      machine config unset memory
    """
    from machine.ops.config import unset as unset_value

    unset_value(key, current_context())


@command.command("edit")
def edit() -> None:
    """Edit config.toml with $VISUAL, $EDITOR or vi. The file is saved only if all settings in it are valid.

    \b
    Example:
      EDITOR=nano machine config edit
    """
    from machine.ops.config import edit as edit_settings

    if not edit_settings(current_context(), _again):
        click.echo("Nothing was changed", err=True)


def _again(problem: str) -> bool:
    if not sys.stdin.isatty():
        return False
    click.echo(f"Error: {problem}", err=True)
    return confirm("Edit the file again?")


@command.command("path")
def path() -> None:
    """Print the path of config.toml, whether it exists or not.

    \b
    Example:
      cp "$(machine config path)" backup.toml
    """
    click.echo(current_context().roots.settings)
