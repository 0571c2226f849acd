"""`machine ssh`: the command line that leads into a guest."""

from __future__ import annotations

from collections.abc import Sequence

from machine.errors import MachineError
from machine.model.state import State
from machine.ops.shared.context import Context
from machine.ops.shared.state import machine_state
from machine.ssh.command import ROOT, SshTarget, config_block, host_key_alias, session_argv
from machine.store import records


def is_machine(name: str, context: Context) -> bool:
    return name in records.machine_names(context.roots)


def session(name: str, username: str | None, command: Sequence[str], context: Context) -> list[str]:
    """The argv of a session, or of one command, in a guest that runs.

    Raises:
        NotFoundError: there is no such machine.
        MachineError: it does not run.
    """
    return session_argv(running_target(name, username, context), command)


def running_target(name: str, username: str | None, context: Context) -> SshTarget:
    """How to reach a guest that runs.

    Raises:
        NotFoundError: there is no such machine.
        MachineError: it does not run.
    """
    target = find_target(name, username, context)
    if machine_state(context.roots.machine(name)).state is State.STOPPED:
        raise MachineError(f'vm "{name}" is not running')
    return target


def ssh_config(name: str, context: Context) -> str:
    """A `Host` block for ~/.ssh/config, with which ssh, scp, rsync and editors reach the guest.

    Raises:
        NotFoundError: there is no such machine.
    """
    return config_block(find_target(name, None, context))


def find_target(name: str, username: str | None, context: Context) -> SshTarget:
    """How to reach a guest as `username`, None being the one whose containers the machine prefers.

    Raises:
        NotFoundError: there is no such machine.
    """
    config = records.load(context.roots, name)
    paths = context.roots.machine(name)
    return SshTarget(
        alias=host_key_alias(name),
        port=config.ssh_port,
        username=username or (ROOT if config.rootful else config.username),
        identity=paths.identity,
        known_hosts=paths.known_hosts,
    )
