"""Many machines at once. One of them has folders, and goes on to the next chapter."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from tests.guest.conftest import BOOT_S, SHARED, World, init_shared
from tests.support.guest_network import answers
from tests.support.world import machine_program

pytestmark = pytest.mark.long


def test_four_machines_start_in_parallel_among_ten(world: World, folders: Path) -> None:
    plain = [f"m{number}" for number in range(1, 10)]
    init_shared(world, folders)
    for name in plain:
        world.machine("init", "--image", "boot2podman", "--disk-size", "12", "--memory", "768", "--cpus", "1", name)
    names = [SHARED, *plain]
    some, others = names[:4], set(names[4:])
    starts = [world.popen([machine_program(), "start", "--quiet", name]) for name in some]
    wrong: list[object] = []
    started = threading.Event()

    def watch() -> None:
        while not started.wait(5):
            listed = json.loads(world.machine("ls", "--format", "json").stdout)
            states = {entry["Name"]: entry["State"] for entry in listed}
            if set(states) != set(names) or any(states[name] != "stopped" for name in others):
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
        assert world.machine("ssh", name, "hostname").stdout == f"{name}\n"
    boxes = [world.inspect(name) for name in some]
    assert len({box["SSHConfig"]["Port"] for box in boxes}) == len(some)
    assert len({box["ConnectionInfo"]["PodmanSocket"]["Path"] for box in boxes}) == len(some)
    world.machine("stop", *some[1:])
    world.machine("rm", "--force", *plain)
    assert [path.name for path in world.machines.iterdir() if not path.name.startswith(".")] == [SHARED]
