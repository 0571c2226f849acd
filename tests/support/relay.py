"""A program that connects its standard input and output to a TCP port, as proxy commands of ssh do."""

from __future__ import annotations

import shlex
import sys

_PROGRAM = (
    "import os, socket, sys, threading; s = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); "
    "send = lambda: [s.sendall(b) for b in iter(lambda: os.read(0, 65536), b'')]; "
    "threading.Thread(target=send, daemon=True).start(); "
    "[os.write(1, b) for b in iter(lambda: s.recv(65536), b'')]"
)


def relay_command(port: int) -> str:
    """Return the shell command that connects to this port of the loopback address."""
    return shlex.join([sys.executable, "-c", _PROGRAM, str(port)])
