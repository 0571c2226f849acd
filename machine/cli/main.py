"""The command line. A command is imported when it is called, and an error becomes one line and an exit status."""

from __future__ import annotations

import gc
import importlib
import io
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import click

from machine import DOCUMENTATION, __version__
from machine.cli.flags import Group, log_to_stderr
from machine.errors import EXIT_ERROR, EXIT_INTERRUPTED, MachineError, evidence_of, line_of

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

# The commands, by section and name. Each has the module in machine.cli, the command's name in that module if it is not
# `command`, and a line for the help, which imports none of the modules.
SECTIONS = {
    "Life cycle": {
        "init": ("init", "Initialize a virtual machine"),
        "start": ("start", "Start an existing machine"),
        "stop": ("stop", "Stop an existing machine"),
        "suspend": ("suspend", "Save a machine's memory on disk, for a quick start"),
        "restart": ("restart", "Stop a machine and start it again"),
        "kill": ("kill", "Turn a machine off at once"),
        "wait": ("wait", "Wait until a machine is running"),
        "up": ("up", "Make and start the machines that a file describes"),
        "down": ("down", "Stop the machines that a file describes"),
        "autostart": ("autostart", "Choose whether a machine starts when you log in"),
        "snapshot": ("snapshot", "Keep states of a machine, and return to them"),
        "clone": ("clone", "Copy a stopped machine"),
        "protect": ("protect", "Protect a machine from removal"),
        "unprotect": ("protect:unprotect", "Allow a machine to be removed again"),
        "rm": ("rm", "Remove an existing machine"),
        "reset": ("reset", "Remove all machines"),
    },
    "Monitoring": {
        "list": ("list", "List machines"),
        "inspect": ("inspect", "Inspect existing machines"),
        "status": ("status", "Print whether a machine is running"),
        "top": ("top", "Show the resource usage of machines live"),
        "logs": ("logs", "Print a machine's logs"),
        "events": ("events", "Print a line whenever a machine changes its state"),
    },
    "Access": {
        "ssh": ("ssh", "SSH into an existing machine"),
        "console": ("console", "Attach to a machine's serial console"),
        "cp": ("cp", "Copy files between this host and a machine"),
    },
    "Configuration": {
        "set": ("set", "Set a virtual machine setting"),
        "rename": ("rename", "Rename a machine"),
        "mount": ("mount", "Share folders of the host with a machine"),
        "port": ("port", "Forward ports of the host to a machine"),
        "config": ("config", "Show and change the defaults of new machines"),
        "export": ("export", "Print a machine as a file for machine init --file"),
        "ignition": ("ignition", "Print a machine's Ignition config"),
    },
    "Images": {
        "image": ("image", "Build, fetch, list and remove images"),
        "upgrade": ("upgrade", "Upgrade the OS of a machine"),
        "os": ("upgrade:os_group", "Change the OS image of a Fedora CoreOS machine"),
    },
    "Clients": {
        "active": ("addresses:active", "Print the machine that clients use by default"),
        "env": ("env", "Print environment variables that point clients to a machine"),
        "url": ("addresses:url", "Print the URL of a machine's API socket"),
        "ip": ("addresses:ip", "Print the address of a machine's published ports"),
        "ssh-config": ("addresses:ssh_config", "Print a block for ~/.ssh/config"),
    },
    "Host": {
        "doctor": ("doctor", "Check whether this host can run machines"),
        "info": ("info", "Show QEMU, its accelerator and the directories on this host"),
    },
}
COMMANDS = {name: entry for section in SECTIONS.values() for name, entry in section.items()}
ALIASES = {"ls": "list", "stats": "top"}


class LazyGroup(Group):
    """The group of all commands. It imports the module of a command only when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        name = ALIASES.get(cmd_name, cmd_name)
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name][0].partition(":")
        command = getattr(importlib.import_module(f"machine.cli.{module}"), attribute or "command")
        assert isinstance(command, click.Command)
        gc.enable()  # disabled by machine.cli.entry
        return command

    def known_words(self, ctx: click.Context) -> list[str]:
        return [*self.list_commands(ctx), *ALIASES]

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete command names from the table in this module, because click would import every command."""
        from click.shell_completion import CompletionItem

        commands = [
            CompletionItem(name, help=COMMANDS[ALIASES.get(name, name)][1])
            for name in sorted(self.known_words(ctx))
            if name.startswith(incomplete)
        ]
        return [*commands, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        width = max(len(_with_alias(name)) for name in COMMANDS)
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(_with_alias(name).ljust(width), text) for name, (_, text) in commands.items()])


def _with_alias(name: str) -> str:
    return ", ".join([name, *(alias for alias, target in ALIASES.items() if target == name)])


# Without a width, click would load shutil, and with it all compression modules, to get the terminal's width.
_SETTINGS = {"help_option_names": ["-h", "--help"], "terminal_width": 78}

_STDERR = 2


@click.command(cls=LazyGroup, context_settings=_SETTINGS, epilog=f"Documentation: {DOCUMENTATION}")
@click.version_option(__version__, prog_name="machine")
@click.option("-v", "--verbose", count=True, help="Log what is being done; -vv also logs every program that is run.")
# Podman's global options say where its service is. They have no effect on machines.
@click.option("-r", "--remote", is_flag=True, hidden=True)
@click.option("-c", "--connection", hidden=True)
@click.option("--url", hidden=True)
@click.option("--identity", hidden=True)
def cli(verbose: int, **_: object) -> None:
    """Run container hosts as virtual machines, with Podman inside.

    \b
    Examples:
      machine init && machine start
      podman --remote run --rm alpine echo hello
      machine doctor
    """
    if verbose:
        log_to_stderr("DEBUG" if verbose > 1 else "INFO")


def main() -> NoReturn:
    """Run the program and exit. An error is one line on stderr and exit status 125, as in podman."""
    # Let these signals raise exceptions, so that clean-ups run. By default they end the interpreter at once.
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _on_terminate)
    _replace_closed_stderr()
    _accept_any_text()
    status = _run()
    # Spare the interpreter its last collection, which would look at every module for nothing.
    gc.freeze()
    # Nothing is left to clean up. Let these signals end the program at once again, because otherwise ^C would print a
    # traceback while the interpreter exits.
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    sys.exit(status)


def _replace_closed_stderr() -> None:
    """Discard what is written to stderr if it is closed. Otherwise it would go to the next file that is opened."""
    if sys.stderr is None:
        null = os.open(os.devnull, os.O_WRONLY)
        if null != _STDERR:
            os.dup2(null, _STDERR)
            os.close(null)
        os.set_inheritable(_STDERR, True)
        sys.stderr = open(_STDERR, "w", closefd=False)  # noqa: SIM115  (for the life of the program)


def _accept_any_text() -> None:
    """Make stdout and stderr accept all text. A path that is not UTF-8 is printed as its original bytes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None if it is closed
            if stream.encoding.lower() in ("utf-8", "ascii"):
                stream.reconfigure(encoding="utf-8", errors="surrogateescape")
            else:
                stream.reconfigure(errors="backslashreplace")


def _run() -> int:  # noqa: PLR0911  (one for each kind of error)
    try:
        status = cli.main(standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        return _fail(_line_of(error))
    except MachineError as error:
        return _fail(error.line, evidence_of(error))
    except OSError as error:
        _discard_output()
        # An error that no adapter has translated is one line, too.
        return _fail(_line_of_os_error(error))
    except Exception as error:  # noqa: BLE001  (its traceback is logged)
        return _unexpected(error)
    return status if isinstance(status, int) else 0


def _line_of(error: click.ClickException) -> str:
    """Return the message of a usage error. If the command line names no command, print the help first."""
    match error:
        case click.exceptions.NoArgsIsHelpError(ctx=context):
            error.show()
            return f"missing command '{context.command_path} COMMAND'{_first_steps(context)}"
        case click.UsageError():
            path = error.ctx.command_path if error.ctx is not None else "machine"
            return f"{_lower_first(error.format_message()).rstrip('.')}; see '{path} --help'"
        case _:
            return error.format_message()


def _first_steps(context: click.Context) -> str:
    """Return a hint for who has no machine yet, if the command line was the program's name alone."""
    if context.parent:
        return ""
    from machine.cli.common import current_context
    from machine.ops.shared.completion import all_names

    try:
        has_machines = bool(all_names(current_context()))
    except (MachineError, OSError):
        return ""
    program = context.command_path
    return "" if has_machines else f"; to make and start your first machine: {program} init && {program} start"


def _line_of_os_error(error: OSError) -> str:
    if isinstance(error, FileNotFoundError) and error.filename is None:
        from machine.files import current_directory  # not for a command that succeeds

        if current_directory() is None:
            return "the current directory no longer exists; go to another with: cd"
    return line_of(error)


def _unexpected(error: Exception) -> int:
    if _was_interrupted(error):
        return EXIT_INTERRUPTED
    import logging

    logging.getLogger(__name__).debug("unexpected error", exc_info=error)
    return _fail("this program has a bug; to see what to report, run the command again with: machine -vv")


def _was_interrupted(error: BaseException) -> bool:
    """Return whether `error`, or one of its causes, is a ^C.

    Python 3.11 turns a ^C during `__set_name__` into a RuntimeError.
    """
    return isinstance(error, KeyboardInterrupt) or (error.__cause__ is not None and _was_interrupted(error.__cause__))


def _discard_output() -> None:
    """Drop buffered output that cannot be written, for example because the disk is full.

    Otherwise the interpreter would try to write it again at exit, and fail with another exit status. Python's manual
    recommends this way: https://docs.python.org/3/library/signal.html#note-on-sigpipe
    """
    try:
        if sys.stdout:  # None if it is closed
            sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())


def _fail(line: str, details: Sequence[str] = ()) -> int:
    click.echo(f"Error: {' '.join(line.splitlines())}", err=True)
    for detail in details:
        click.echo(f"  {detail}", err=True)
    return EXIT_ERROR


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


def _on_terminate(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    raise KeyboardInterrupt
