"""Make machines of a host that is reached over SSH, and reach what their containers publish."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from tests.support.remote_host import USER, RemoteHost
from tests.support.waiting import WAIT_S
from tests.support.world import Outcome, World

MARKS = [
    pytest.mark.skipif(os.getuid() != 0 or sys.platform != "linux", reason="only root can give a host its own network"),
    pytest.mark.usefixtures("machines_elsewhere"),
]
"""What every module of tests with such machines needs."""

PAGE = "  see the documentation: troubleshooting#hosts\n"
"""The last line of errors that the page on hosts explains."""


def init(world: World, host: RemoteHost, *words: str, user: str = USER, stdin: str = "", name: str = "far") -> Outcome:
    known = () if any(word.endswith("host-key") for word in words) else ("--host-key", host.host_key)
    identity = () if "--identity" in words else ("--identity", str(host.identity))
    place = f"{user}@127.0.0.1:{host.port}"
    return world.machine("init", "--provider", "ssh", "--host", place, *known, *identity, *words, name, stdin=stdin)


def made(world: World, host: RemoteHost, *words: str, user: str = USER) -> None:
    outcome = init(world, host, *words, user=user)
    assert outcome.status == 0, outcome.stderr


def nothing_is_left(world: World) -> bool:
    return not [path for path in world.machines.glob("[!.]*") if path.is_dir()] and not world.connections.get(
        "Connections"
    )


def started(world: World, host: RemoteHost, *words: str, user: str = USER) -> None:
    made(world, host, *words, user=user)
    world.must("start", "far")


def read_port(port: int) -> str | None:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as connection:
            return connection.recv(100).decode() or None
    except OSError:
        return None


def times_up(world: World) -> int:
    """Return how often the machine has come up since its supervisor started."""
    return world.must("logs", "far").stdout.count("phase: api -> up")
