"""`machine ssh`: run a shell or a command in a running guest."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from machine import runner
from machine.errors import MachineError, NotFoundError
from machine.model.names import DEFAULT_MACHINE, similar_words
from machine.ops.shared.context import Context
from machine.ops.shared.state import machine_state
from machine.ops.shared.target import ended_error, running_target
from machine.ssh.client import check_user
from machine.ssh.command import SSH_FAILED, SshTarget, session_argv
from machine.ssh.greeting import greets
from machine.ssh.refusal import refusal
from machine.store.names import NO_MACHINES, machine_names

# ssh has failed already, and the user waits for the reason.
_GREETING_S = 3.0
_LOGIN_S = 15.0


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
    elif DEFAULT_MACHINE not in machines:
        missing = words[0] if words and words[0] != "--" else DEFAULT_MACHINE
        raise NotFoundError(f"{missing}: VM does not exist", hint=_how_to_name_one(words, machines))
    return name, command[1:] if command and command[0] == "--" else command


def _how_to_name_one(words: Sequence[str], machines: Sequence[str]) -> str:
    """Return a hint for a command line that names no machine, when there is no default machine."""
    if not machines:
        return NO_MACHINES
    near = similar_words(words[0], machines) if words else []
    if near:
        return f"did you mean {' or '.join(near)}?"
    purpose = "run a command" if words else "open a shell"
    if len(machines) == 1:
        choice, name = "the machine", machines[0]
    else:
        choice, name = f"one of the machines {', '.join(machines)}", "NAME"
    return f"to {purpose}, name {choice}: {' '.join(['machine ssh', name, *map(shlex.quote, words)])}"


@dataclass(frozen=True, kw_only=True)
class Session:
    """A shell, or a command, in the guest of the machine `name`. `argv` is the command line of ssh."""

    name: str
    target: SshTarget
    argv: Sequence[str]


def session(
    name: str, username: str | None, command: Sequence[str], context: Context, *, no_input: bool = False
) -> Session:
    """Return the session that opens a shell in a running guest, or that runs `command` there.

    With `no_input`, the standard input of the command in the guest is /dev/null.

    Raises:
        NotFoundError: there is no such machine.
        MachineError: the machine is not running, or ssh refuses to run for this user.
    """
    target = running_target(name, username, context)
    check_user()
    return Session(name=name, target=target, argv=session_argv(target, command, no_input=no_input))


def run(session: Session, context: Context) -> int:
    """Run a session on our terminal, and return its exit status.

    Raises:
        MachineError: ssh is not installed, or there was no session, or the session ended with the machine.
    """
    status = runner.interact(session.argv)
    if status == SSH_FAILED and (error := _failure(session, context)):
        raise error
    return status


def _failure(session: Session, context: Context) -> MachineError | None:
    """Return why ssh has failed, or None if it is unknown, or if ssh has passed on the exit status of the command."""
    if error := ended_error(session.name, machine_state(context.roots.machine(session.name))):
        return error
    if not greets(session.target, timeout_s=_GREETING_S):
        return None
    try:
        login = runner.run(session_argv(session.target, ["true"], no_input=True), timeout_s=_LOGIN_S, check=False)
    except MachineError:
        return None
    return refusal(session.name, session.target, login.stderr) if login.returncode == SSH_FAILED else None
