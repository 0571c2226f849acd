"""`machine ssh`: the command line that leads into a guest."""

from __future__ import annotations

from collections.abc import Sequence

from machine.errors import MachineError
from machine.model.config import MachineConfig
from machine.model.state import State
from machine.ops.context import Context
from machine.ops.state import machine_state
from machine.ssh.command import ROOT, SshTarget, host_key_alias, session_argv
from machine.store import records


def is_machine(name: str, context: Context) -> bool:
    return name in records.machine_names(context.roots)


def session(name: str, username: str | None, command: Sequence[str], context: Context) -> list[str]:
    """The argv of a session, or of one command, in a guest that runs.

    Raises:
        NotFoundError: there is no such machine.
        MachineError: it does not run.
    """
    config = records.load(context.roots, name)
    paths = context.roots.machine(name)
    if machine_state(paths).state is State.STOPPED:
        raise MachineError(f'vm "{name}" is not running')
    target = SshTarget(
        alias=host_key_alias(name),
        port=config.ssh_port,
        username=username or _default_user(config),
        identity=paths.identity,
        known_hosts=paths.known_hosts,
    )
    return session_argv(target, command)


def _default_user(config: MachineConfig) -> str:
    return ROOT if config.rootful else config.username
