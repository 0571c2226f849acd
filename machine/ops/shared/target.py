"""Find out how to reach a machine's guest over SSH."""

from __future__ import annotations

from machine.errors import MachineError
from machine.model.state import State
from machine.ops.shared.context import Context
from machine.ops.shared.state import machine_state
from machine.ssh.command import ROOT, SshTarget, host_key_alias
from machine.store import records


def find_target(name: str, username: str | None, context: Context) -> SshTarget:
    """Return how to log in to a guest as `username`. None means root if the machine is rootful, else the guest's user.

    Raises:
        NotFoundError: there is no such machine.
    """
    config = records.load(context.roots, name).config
    paths = context.roots.machine(name)
    return SshTarget(
        alias=host_key_alias(name),
        port=config.ssh_port,
        username=username or (ROOT if config.rootful else config.username),
        identity=paths.identity,
        known_hosts=paths.known_hosts,
    )


def running_target(name: str, username: str | None, context: Context) -> SshTarget:
    """Return how to log in to the guest of a running machine, as `find_target` does.

    Raises:
        NotFoundError: there is no such machine.
        MachineError: the machine is not running.
    """
    target = find_target(name, username, context)
    if machine_state(context.roots.machine(name)).state is State.STOPPED:
        raise MachineError(f'vm "{name}" is not running')
    return target
