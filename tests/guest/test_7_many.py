"""Many machines at once. One of them has folders, for the next chapter."""

from __future__ import annotations

import json
import threading

import pytest

from tests.support.guest_machines import SHARED, SharedMachine
from tests.support.guest_network import answers
from tests.support.guests import BOOT_S
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
