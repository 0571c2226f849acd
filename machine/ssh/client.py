"""The OpenSSH client on this host, and whether it supports the options that we use."""

from __future__ import annotations

import os
import pwd
import shutil
from dataclasses import dataclass
from pathlib import Path

from machine import runner
from machine.errors import MachineError, Page
from machine.ssh.command import ROOT, SshTarget, master_argv

_TIMEOUT_S = 10


@dataclass(frozen=True, kw_only=True)
class Client:
    """The OpenSSH client. If the client cannot forward a machine's sockets, `obstacle` says why, else it is None."""

    path: str
    version: str
    obstacle: str | None


def check_user() -> None:
    """Check that this user has an entry in the passwd database, because OpenSSH's programs refuse to run without one.

    Raises:
        MachineError: this user has no entry.
    """
    uid = os.getuid()
    try:
        pwd.getpwuid(uid)
    except KeyError as error:
        raise MachineError(
            f"ssh refuses to run, because user ID {uid} has no entry in /etc/passwd",
            hint=f"have root add an entry: echo user:x:{uid}:{os.getgid()}::/:/bin/sh >>/etc/passwd",
        ) from error


def check_client() -> None:
    """Check that OpenSSH's client is installed, and runs for this user.

    Raises:
        MachineError: the client is not installed, or this user has no entry in the passwd database.
    """
    if shutil.which("ssh") is None:
        raise MachineError("ssh is not installed on this host", hint="install OpenSSH's client", page=Page.DOCTOR)
    check_user()


def find_client() -> Client:
    """Find OpenSSH's client on PATH, and check its version and options.

    Raises:
        MachineError: ssh is not installed, or cannot be run.
    """
    path = shutil.which("ssh")
    if path is None:
        raise MachineError("ssh is not installed on this host")
    check_user()
    completed = runner.run([path, "-V"], timeout_s=_TIMEOUT_S, check=False)
    lines = (completed.stderr or completed.stdout).strip().splitlines()
    return Client(path=path, version=lines[0].partition(",")[0] if lines else "", obstacle=_obstacle(path))


def _obstacle(path: str) -> str | None:
    """Return why the client rejects our options, or None if it accepts them.

    With `-G`, ssh reads its options and does not connect.
    """
    nowhere = Path("/nowhere")
    target = SshTarget(alias="machine", port=22, username=ROOT, identity=nowhere, known_hosts=nowhere)
    _, *words = master_argv(target, nowhere, {nowhere: "/run/podman/podman.sock"})
    completed = runner.run([path, "-G", *words], timeout_s=_TIMEOUT_S, check=False)
    if completed.returncode == 0:
        return None
    lines = [line.strip() for line in completed.stderr.splitlines() if line.strip()]
    return lines[0] if lines else f"it failed with exit status {completed.returncode}"
