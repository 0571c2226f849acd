"""Many machines at once. One of them has folders, for the next chapter."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.guest_machines import SHARED, SharedMachine
from tests.support.guest_network import answers
from tests.support.guests import BOOT_S
from tests.support.remote_host import USER, remote_host
from tests.support.world import World, machine_program

pytestmark = pytest.mark.long


def test_four_machines_start_in_parallel_among_ten(world: World, shared_machine: SharedMachine) -> None:
    plain = [f"m{number}" for number in range(1, 10)]
    shared_machine.init()
    for name in plain:
        world.must("init", "--image", "boot2podman", "--disk-size", "12", "--memory", "768", "--cpus", "1", name)
    names = [SHARED, *plain]
    some, others = names[:4], set(names[4:])
    starts = [world.spawn(machine_program(), "start", "--quiet", name) for name in some]
    wrong: list[object] = []
    started = threading.Event()

    def watch() -> None:
        while not started.wait(5):
            listed = json.loads(world.must("ls", "--format", "json").stdout)
            states = {entry["Name"]: entry["State"] for entry in listed}
            if not set(names) <= set(states) or any(states[name] != "stopped" for name in others):
                wrong.append(states)

    watcher = threading.Thread(target=watch)
    watcher.start()
    ends = [process.communicate(timeout=2 * BOOT_S) for process in starts]
    started.set()
    watcher.join()
    assert [process.returncode for process in starts] == [0] * len(some), ends
    assert not wrong
    for name in some:
        assert answers(world, name)
        assert world.must("ssh", name, "hostname").stdout == f"{name}\n"
    boxes = [world.inspect(name) for name in some]
    assert len({box["SSHConfig"]["Port"] for box in boxes}) == len(some)
    assert len({box["ConnectionInfo"]["PodmanSocket"]["Path"] for box in boxes}) == len(some)
    world.must("stop", *some[1:])
    world.must("rm", "--force", *plain)
    assert not any((world.machines / name).exists() for name in plain)


MACHINES = """
[defaults]
image = "boot2podman"
disk_size = 12
memory = 768
cpus = 1
volume = ""

[machine.web]
volume = ["./site:/srv/site:ro"]

[machine.db]
env = {PLACE = "db"}

[machine.cache]

[machine.far]
"""
FOUR = ("web", "db", "cache", "far")


@pytest.fixture
def elsewhere(short_path: Path) -> Iterator[str]:
    """The keys for a host over SSH, on which Podman is a stand-in."""
    if os.getuid() != 0:
        pytest.skip("only root can give a host its own network")
    with remote_host(short_path) as host:
        host.has_podman()
        host.listens()
        yield host.table


def test_machines_of_a_file_come_up_and_go_down_together(world: World, elsewhere: str) -> None:
    """Four machines of two providers."""
    world = replace(world, timeout_s=3 * BOOT_S)  # four guests boot on a host that may be busy
    (world.root / "site").mkdir()
    (world.root / "site" / "index.html").write_text("hello\n")
    file = world.root / "machines.toml"
    machines = MACHINES + elsewhere
    file.write_text(machines)
    assert _rows(world.must("up").stdout) == [f"{name} running made and started" for name in FOUR]
    assert world.must("ssh", "web", "cat", "/srv/site/index.html").stdout == "hello\n"
    assert world.must("ssh", "db", "bash -lc 'echo $PLACE'").stdout == "db\n"
    for name in ("web", "db", "cache"):
        assert answers(world, name)
    assert world.must("ssh", "far", "id", "-un").stdout == f"{USER}\n"

    began = time.monotonic()
    again = world.must("up")
    took_s = time.monotonic() - began
    assert (_rows(again.stdout), again.stderr) == ([f"{name} running unchanged" for name in FOUR], "")
    assert took_s < 5, "it takes a second on a quiet host"

    world.must("rm", "--force", "db")
    world.must("suspend", "web")
    file.write_text(machines.replace("cpus = 1", "cpus = 2").replace('PLACE = "db"', 'PLACE = "there"'))
    told = world.must("up")
    assert _rows(told.stdout) == [
        "web running resumed",
        "db running made and started",
        "cache running unchanged",
        "far running unchanged",
    ]
    for name in ("web", "cache"):
        assert f"{name}: cpus is 1, but 2 in machines.toml; to change this, stop the machine first" in told.stderr
    assert _rows(world.must("down").stdout) == [f"{name} stopped" for name in FOUR]
    assert {world.state(name)[0] for name in FOUR} == {"stopped"}
    world.must("rm", "--force", *FOUR)


def _rows(stdout: str) -> list[str]:
    """The rows of the table of `machine up`, without the heading, and with single spaces."""
    return [" ".join(line.split()) for line in stdout.splitlines()[1:]]
