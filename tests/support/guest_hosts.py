"""Guests that play the part of a host over SSH: another machine is only the connection to them."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

from machine import lock
from tests.support.free_ports import choose_port
from tests.support.guest_network import SERVE, fetch, reachable
from tests.support.waiting import wait_until
from tests.support.world import World

SLOW_S = 300


def words_of_host(world: World, name: str) -> tuple[str, ...]:
    """Return the options of `init` that name the guest of a machine as the host of another one."""
    directory = world.machines / name
    key = " ".join((directory / "ssh_host_ed25519_key.pub").read_text().split()[:2])
    place = f"core@127.0.0.1:{world.inspect(name)['SSHConfig']['Port']}"
    return (
        "--provider", "ssh", "--host", place, "--identity", str(directory / "id_ed25519"), "--host-key", key,
    )  # fmt: skip


@contextlib.contextmanager
def unsupervised(world: World, name: str) -> Iterator[None]:
    """Stop a machine's supervisor during the block. It would open the ports of its guest's containers itself."""
    pid = lock.holder_pid(world.machines / name / "supervisor.lock")
    assert pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def publish(world: World, name: str) -> int:
    """Run the container `afar`, a web server, on the host of the machine `name`. Return its port on this host."""
    port = choose_port()
    web = ("--publish", f"127.0.0.1:{port}:80", "busybox", "sh", "-c", SERVE)
    world.remote(name, "run", "--detach", "--name", "afar", *web)
    wait_until(lambda: reachable("127.0.0.1", port), "the port", timeout_s=SLOW_S)
    assert fetch(f"127.0.0.1:{port}") == "hello\n"
    return port
