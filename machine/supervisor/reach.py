"""Prepare the start of a machine that is a host over SSH, by checking that its user can log in."""

from __future__ import annotations

from pathlib import Path

from machine import runner
from machine.errors import GuestError, MachineError, Page
from machine.folders.transports import MountedFolder
from machine.model.record import MachineRecord
from machine.model.transport import Transport
from machine.providers.login import supervisors_login
from machine.ssh.client import check_client
from machine.ssh.command import SSH_FAILED, session_argv
from machine.ssh.refusal import refusal
from machine.ssh.remote import unreachable
from machine.store.paths import MachinePaths

_LOGIN_S = 60.0


def prepare(record: MachineRecord, paths: MachinePaths) -> list[MountedFolder]:
    """Check that the user can log in to the host, and return the folders that the host is to mount.

    Raises:
        GuestError: the host accepts no login, or has another host key.
        MachineError: the host cannot be reached, or a file that the login needs is missing.
    """
    config = record.config
    check_client()
    target = supervisors_login(config, paths)
    for path in (target.identity, target.known_hosts):
        _check_file(config.name, path)
    done = runner.run(session_argv(target, ["true"], no_input=True), timeout_s=_LOGIN_S, check=False)
    if done.returncode == SSH_FAILED:
        error = refusal(config.name, target, done.stderr) or unreachable(target, done.stderr)
        message = f'unable to start "{config.name}": {error.message}'
        raise GuestError(message, details=error.details, hint=error.hint, page=Page.HOSTS)
    return [MountedFolder(folder=folder, transport=Transport.SSHFS) for folder in config.folders]


def _check_file(name: str, path: Path) -> None:
    if not path.is_file():
        raise MachineError(
            f'unable to start "{name}": {path} is missing',
            hint=f"restore it, or make the machine anew, after: machine rm {name}",
            page=Page.HOSTS,
        )
