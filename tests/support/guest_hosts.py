"""Guests that play the part of a host over SSH: another machine is only the connection to them."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

from machine import lock
from tests.support.free_ports import choose_port
from tests.support.guest_network import SERVE, fetch, reachable
from tests.support.guests import BOOT_S
from tests.support.machines_elsewhere import read_port
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


def reboot_host(world: World, word: str, port: int) -> None:
    """Reboot the host of the machine `far`, and check that everything comes back.

    The file `word` is in a folder of the machine. `port` is published by its container `afar`, which does not restart.
    """
    forward, boot_id = choose_port(), ("ssh", "far", "cat", "/proc/sys/kernel/random/boot_id")
    world.must("port", "add", "far", f"127.0.0.1:{forward}:22")
    before = world.must(*boot_id).stdout
    world.machine("ssh", "far", "sudo", "reboot")
    wait_until(lambda: world.state("far")[0] == "degraded", "the loss to be noticed", timeout_s=SLOW_S)
    wait_until(lambda: world.state("far") == ("running", ""), "the host", timeout_s=BOOT_S)
    assert world.must(*boot_id).stdout != before
    assert (read_port(forward) or "").startswith("SSH-2.0-")
    assert world.must("ssh", "far", "cat", word).stdout == "shared"
    wait_until(lambda: not reachable("127.0.0.1", port), "the port's end", timeout_s=SLOW_S)
    world.remote("far", "start", "afar")
    wait_until(lambda: reachable("127.0.0.1", port), "the port", timeout_s=SLOW_S)
    assert fetch(f"127.0.0.1:{port}") == "hello\n"
