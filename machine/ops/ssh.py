"""`machine ssh`: run a shell or a command in a running guest."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from machine.errors import NotFoundError
from machine.model.names import DEFAULT_MACHINE, similar_words
from machine.ops.shared.context import Context
from machine.ops.shared.target import running_target
from machine.ssh.client import check_user
from machine.ssh.command import session_argv
from machine.store.names import machine_names


def read_words(words: Sequence[str], context: Context) -> tuple[str, Sequence[str]]:
    """Split the words of the command line into the machine's name and the command to run in its guest.

    Raises:
        NotFoundError: the first word is no machine's name, and there is no default machine.
    """
    return split_words(words, machine_names(context.roots))


def split_words(words: Sequence[str], machines: Sequence[str]) -> tuple[str, Sequence[str]]:
    """Split a command line into a machine's name and a command. `machines` are the names of all machines (pure).

    If the first word is `--` or is no machine's name, the command is for the default machine.

    Raises:
        NotFoundError: the first word is no machine's name, and there is no default machine.
    """
    name, command = DEFAULT_MACHINE, words
    if words and words[0] in machines:
        name, command = words[0], words[1:]
    elif words and words[0] != "--" and DEFAULT_MACHINE not in machines:
        raise NotFoundError(f"{words[0]}: VM does not exist", hint=_how_to_name_one(words, machines))
    return name, command[1:] if command and command[0] == "--" else command


def _how_to_name_one(words: Sequence[str], machines: Sequence[str]) -> str:
    """Return a hint for a command line that names no machine, when there is no default machine."""
    if not machines:
        return "there are no machines; make one with: machine init"
    near = similar_words(words[0], machines)
    if near:
        return f"did you mean {' or '.join(near)}?"
    command = f"machine ssh NAME {shlex.join(words)}"
    return f"to run a command, name one of the machines {', '.join(machines)}: {command}"


def session(
    name: str, username: str | None, command: Sequence[str], context: Context, *, no_input: bool = False
) -> list[str]:
    """Return the ssh command line that opens a shell in a running guest, or that runs `command` there.

    With `no_input`, the standard input of the command in the guest is /dev/null.

    Raises:
        NotFoundError: there is no such machine.
        MachineError: the machine is not running, or ssh refuses to run for this user.
    """
    target = running_target(name, username, context)
    check_user()
    return session_argv(target, command, no_input=no_input)
