"""Choose ports of this host for what a guest publishes."""

from __future__ import annotations

import random
import socket

# Below those that a kernel gives to clients. Of these, one may have been taken in the guest, or is taken on the host
# before the guest asks for it.
_PORTS = range(20000, 32000)


def choose_port() -> int:
    """Choose a port that is free on this host, and that the guest's kernel gives to no client."""
    return choose_ports(1)


def choose_ports(count: int) -> int:
    """Choose `count` consecutive ports as `choose_port` does, and return the first."""
    while True:
        low = random.choice(_PORTS)
        if all(_is_free(low + offset) for offset in range(count)):
            return low


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
