"""A machine that falls asleep when nobody uses it, and that its clients wake."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from machine import lock
from tests.support.free_ports import choose_port
from tests.support.guest_network import SERVE, fetch
from tests.support.guests import make_guest_world, take_down
from tests.support.processes import processes_of
from tests.support.waiting import wait_until
from tests.support.world import World

pytestmark = pytest.mark.long

# Five minutes after a start at the soonest, and the time that a busy host takes to save the memory.
_ASLEEP_S = 900
# Each look is a command, and none of them is use of the machine.
_EVERY_S = 5


@pytest.fixture(scope="module")
def idle(streams: Path) -> Iterator[World]:
    """A world with the running machine `box`, which is suspended when it has been idle for a minute."""
    world = make_guest_world(streams, os.getuid())
    size = ("--disk-size", "12", "--memory", "1024")
    world.must("init", "--image", "boot2podman", *size, "--now", "--idle-suspend", "1m", "box")
    yield world
    take_down(world)


def await_sleep(world: World) -> None:
    wait_until(
        lambda: world.state("box") == ("suspended", ""), "the idle machine", timeout_s=_ASLEEP_S, every_s=_EVERY_S
    )
    assert "Currently suspended" in world.must("ls").stdout
    assert not processes_of(world.machines / "box")
    assert lock.is_held(world.machines / "box" / "waiting.lock")


def test_idle_machine_falls_asleep_and_its_clients_wake_it(
    idle: World, busybox: Path, clients: Callable[[str], list[str]]
) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    assert idle.state("box") == ("running", "")
    await_sleep(idle)
    listed = idle.run(*clients("bin/docker"), "--context", "box", "ps")
    assert listed.stdout.startswith("CONTAINER ID")
    idle.must("wait", "--for", "running", "box")

    idle.remote("box", "import", "--quiet", str(busybox), "busybox")
    web = f"127.0.0.1:{choose_port()}"
    idle.remote("box", "run", "--detach", "--name", "web", "-p", f"{web}:80", "busybox", "sh", "-c", SERVE)
    assert fetch(web) == "hello\n"
    idle.must("suspend", "box")  # by hand, because a machine with a container is not idle
    assert idle.state("box") == ("suspended", "")
    page = idle.run(curl, "--silent", "--show-error", "--noproxy", "*", f"http://{web}/")
    assert page.stdout == "hello\n"
    idle.must("wait", "--for", "running", "box")

    idle.remote("box", "rm", "--force", "--time", "0", "web")
    await_sleep(idle)
    assert idle.must("ssh", "box", "echo", "awake").stdout == "awake\n"
