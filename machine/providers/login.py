"""Find out how to log in to the guest of a machine, whatever its provider is (pure)."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

from machine.model.config import MachineConfig
from machine.model.provider import RootAccess
from machine.ssh.command import ROOT, SshTarget, command_argv, host_key_alias
from machine.store.paths import MachinePaths, identity_of


def login_of(config: MachineConfig, paths: MachinePaths, username: str) -> SshTarget:
    """Return the address, user and key by which ssh logs in to a guest. `paths` are the machine's files."""
    target = SshTarget(
        alias=host_key_alias(config.name),
        port=config.ssh_port,
        username=username,
        identity=identity_of(config, paths),
        known_hosts=paths.known_hosts,
    )
    if remote := config.remote:
        return replace(
            target,
            address=remote.address,
            proxy_command=remote.proxy_command,
            has_own_key=False,
            agent=remote.agent,
        )
    return target


def supervisors_login(config: MachineConfig, paths: MachinePaths) -> SshTarget:
    """Return how a supervisor logs in: to a virtual machine as root, to a remote host as its own user."""
    return login_of(config, paths, config.username if config.remote else ROOT)


def root_command(config: MachineConfig, target: SshTarget, control: Path, command: str) -> list[str]:
    """Return the ssh command line that runs a command as root in the guest, over the SSH master at `control`."""
    by_sudo = config.remote is not None and config.remote.root_access is not RootAccess.LOGIN
    return command_argv(target, control, shlex.join(["sudo", "-n", "sh", "-c", command]) if by_sudo else command)
