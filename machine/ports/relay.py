"""Relay one connection of the guest to the socket of the port API's server.

QEMU's guestfwd runs this file for each connection, with the connection as standard input and output. It imports
nothing of ours, so that it starts fast.
"""

import os
import select
import socket
import sys

_CHUNK = 65536
# The supervisor answers sooner, and a guest that is silent for longer has gone.
_IDLE_S = 60


def main(path: str) -> None:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.connect(path)
    guest_in, guest_out = sys.stdin.fileno(), sys.stdout.fileno()
    readable = [guest_in, server.fileno()]
    while server.fileno() in readable:
        ready, _, _ = select.select(readable, [], [], _IDLE_S)
        if not ready:
            return
        if guest_in in ready:
            data = os.read(guest_in, _CHUNK)
            if not data:
                readable.remove(guest_in)
                server.shutdown(socket.SHUT_WR)
            elif not _send(server, data):
                readable.remove(guest_in)  # the server has read enough, and still answers
        if server.fileno() in ready:
            data = server.recv(_CHUNK)
            if not data:
                return
            while data:
                data = data[os.write(guest_out, data) :]


def _send(server: socket.socket, data: bytes) -> bool:
    try:
        server.sendall(data)
    except BrokenPipeError:
        return False
    return True


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except OSError:
        sys.exit(1)
