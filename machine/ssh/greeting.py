"""Find out whether a guest's SSH server answers, before running a program that would wait for the server silently."""

from __future__ import annotations

import socket

from machine.deadline import Deadline
from machine.ssh.command import SshTarget


def greets(target: SshTarget, *, timeout_s: float) -> bool:
    """Return whether the guest's SSH server sends its greeting within `timeout_s`.

    Behind a proxy command, which may ask for a login of its own, the server is assumed to do so.
    """
    if target.proxy_command is not None:
        return True
    deadline = Deadline.after(timeout_s, "the greeting of the SSH server")
    try:
        with socket.create_connection((target.address, target.port), timeout=timeout_s) as connection:
            connection.settimeout(max(deadline.left_s, 0.1))
            return bool(connection.recv(1))
    except OSError:
        return False
