"""`machine top` of machines that are stopped, and of one with a real QEMU that never boots."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from machine import lock
from tests.support.disk_images import Images
from tests.support.start import starting
from tests.support.world import COMMAND_S, World

COUNTERS = "#!/bin/sh\necho 4096\necho\necho 512\n"


@pytest.fixture
def box(world: World, images: Images) -> Iterator[World]:
    """A world with the machine `box`."""
    world.init("box", images.qcow2)
    yield world
    world.machine("rm", "--force", "box")


def top(world: World, *words: str) -> list[dict[str, Any]]:
    outcome = world.machine("top", "--no-stream", "--format", "json", *words)
    assert (outcome.status, outcome.stderr) == (0, "")
    found: list[dict[str, Any]] = json.loads(outcome.stdout)
    return found


def test_without_names_it_shows_those_that_run(box: World) -> None:
    assert top(box) == []
    outcome = box.machine("top", "--no-stream")
    assert (outcome.status, outcome.stdout.split()[:2]) == (0, ["NAME", "CPU"])
    assert len(outcome.stdout.splitlines()) == 1


def test_machine_that_is_stopped_shows_its_disk(box: World) -> None:
    (found,) = top(box, "box")
    assert [found[key] for key in ("State", "PIDs", "MemUsage", "CPUPerc")] == ["stopped", 0, None, None]
    assert 0 < found["DiskUsage"] < found["DiskSize"]
    assert top(box, "--all") == [found]


def test_running_machine_shows_its_qemu(box: World) -> None:
    with starting(box) as process:
        (found,) = top(box)
        table = box.machine("top", "--no-stream").stdout
        filled = box.machine("stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}", "box").stdout
        box.machine("kill", "box")
        process.communicate(timeout=COMMAND_S)
    assert (found["Name"], found["State"]) == ("box", "starting")
    assert found["PIDs"] >= 2  # the supervisor and QEMU
    assert found["CPUPerc"] >= 0
    assert 10 * 2**20 < found["MemUsage"] < found["MemLimit"]
    assert found["BlockInput"] is not None
    assert found["NetInput"] is None  # nobody could be asked yet
    assert table.splitlines()[1].startswith("box ")
    assert filled.startswith("box ")


def test_network_is_what_the_guest_tells(box: World) -> None:
    with starting(box) as process:
        lock.signal_holder(box.machines / "box" / "supervisor.lock", signal.SIGKILL)  # its ssh client then is ours
        process.communicate(timeout=COMMAND_S)
        ssh = box.bin / "ssh"
        ssh.unlink(missing_ok=True)
        ssh.write_text(COUNTERS)
        ssh.chmod(0o755)
        (found,) = top(box)
    assert (found["State"], found["NetInput"], found["NetOutput"]) == ("degraded", 4096, 512)


def test_it_goes_on_until_it_is_interrupted(box: World) -> None:
    with box.popen("top", "--all", "--interval", "1") as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(4)]
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=COMMAND_S)
    assert process.returncode == 130
    assert lines[0] == lines[2]  # a table every second
    assert lines[1].startswith("box ")
