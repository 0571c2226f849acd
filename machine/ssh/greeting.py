"""Find out whether a guest's SSH server answers, before running a program that would wait for the server silently."""

from __future__ import annotations

import socket

from machine.deadline import Deadline


def greets(port: int, *, timeout_s: float) -> bool:
    """Return whether the SSH server on this port of the loopback address sends its greeting within `timeout_s`."""
    deadline = Deadline.after(timeout_s, "the greeting of the SSH server")
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
            connection.settimeout(max(deadline.left_s, 0.1))
            return bool(connection.recv(1))
    except OSError:
        return False
