"""Clients that connect without a pause, to find moments at which nobody listens."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

Address = tuple[str, int] | Path


@dataclass(kw_only=True)
class Attempts:
    """How often clients have connected to each address, and what they were refused with."""

    connected: dict[Address, int]
    refused: list[tuple[Address, OSError]] = field(default_factory=list)


@contextlib.contextmanager
def hammering(addresses: Sequence[Address], *, every_s: float = 0.001) -> Iterator[Attempts]:
    """Connect to each address again and again during the block, and hang up at once."""
    attempts = Attempts(connected=dict.fromkeys(addresses, 0))
    ended = threading.Event()

    def hammer() -> None:
        while not ended.wait(every_s):
            for address in addresses:
                try:
                    connect(address).close()
                except OSError as error:
                    attempts.refused.append((address, error))
                else:
                    attempts.connected[address] += 1

    thread = threading.Thread(target=hammer)
    thread.start()
    try:
        yield attempts
    finally:
        ended.set()
        thread.join()


def connect(address: Address, timeout_s: float = 30) -> socket.socket:
    if isinstance(address, tuple):
        return socket.create_connection(address, timeout_s)
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(timeout_s)
    try:
        client.connect(os.fspath(address))
    except OSError:
        client.close()
        raise
    return client


def is_hung_up_on(client: socket.socket) -> bool:
    """Return whether a client is hung up on, which it waits for."""
    with client:
        try:
            return client.recv(1) == b""
        except ConnectionResetError:
            return True
