"""`machine top` of machines that are stopped, and of one with a real QEMU that never boots."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from machine import lock
from machine.folders.probe import find_virtiofsd
from machine.model.obstacle import Obstacle
from machine.this_host import current_host
from tests.support.disk_images import Images
from tests.support.start import starting
from tests.support.waiting import wait_until
from tests.support.world import COMMAND_S, World

COUNTERS = "echo 4096\necho\necho 512\n"


@pytest.fixture
def box(world: World, images: Images) -> Iterator[World]:
    """A world with the machine `box`."""
    world.init("box", images.qcow2)
    yield world
    world.machine("rm", "--force", "box")


@contextlib.contextmanager
def orphaned(world: World) -> Iterator[None]:
    """A guest whose supervisor was killed, so that the ssh client is on our PATH alone."""
    with starting(world) as process:
        lock.signal_holder(world.machines / "box" / "supervisor.lock", signal.SIGKILL)
        process.communicate(timeout=COMMAND_S)
        yield


def put_ssh(world: World, script: str) -> None:
    ssh = world.bin / "ssh"
    ssh.unlink(missing_ok=True)
    ssh.write_text(script)
    ssh.chmod(0o755)


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


@pytest.mark.linux("only Linux counts what a process reads")
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
    with orphaned(box):
        put_ssh(box, f"#!/bin/sh\n{COUNTERS}")
        (found,) = top(box)
    assert (found["State"], found["NetInput"], found["NetOutput"]) == ("degraded", 4096, 512)


def test_network_of_a_slow_guest_is_waited_for_if_there_is_one_report(box: World) -> None:
    with orphaned(box):
        put_ssh(box, f"#!/bin/sh\nsleep 3\n{COUNTERS}")
        (found,) = top(box)
    assert (found["NetInput"], found["NetOutput"]) == (4096, 512)


def test_interrupt_does_not_wait_for_a_guest_that_does_not_answer(box: World) -> None:
    with orphaned(box):
        put_ssh(box, "#!/bin/sh\nexec sleep 600\n")
        with box.popen("top", "--interval", "1") as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(2)]
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=COMMAND_S)
    assert lines[1].startswith("box ")
    assert time.monotonic() - began < 8  # a guest has 10 s to answer
    assert process.returncode == 130


@pytest.mark.skipif(isinstance(find_virtiofsd(current_host()), Obstacle), reason="virtiofsd is not installed")
def test_virtiofsd_counts_after_its_supervisor_has_ended(box: World) -> None:
    (box.root / "shared").mkdir()
    box.must("set", "--volume", f"{box.root}/shared:/shared", "--volume-driver", "virtiofs", "box")
    with starting(box) as process:
        wait_until(lambda: top(box)[0]["PIDs"] >= 3, "virtiofsd")
        with_supervisor = top(box)[0]["PIDs"]
        lock.signal_holder(box.machines / "box" / "supervisor.lock", signal.SIGKILL)
        process.communicate(timeout=COMMAND_S)
        (found,) = top(box)
    assert found["State"] == "degraded"
    assert found["PIDs"] >= with_supervisor - 2  # without the supervisor, and perhaps its ssh


def test_unreadable_record_is_told_beside_the_others(box: World) -> None:
    (box.machines / "bad").mkdir()
    (box.machines / "bad" / "record.json").write_text("{")
    for words in (("--no-stream", "--all"), ("--no-stream", "--all", "--format", "json")):
        outcome = box.machine("top", *words)
        assert (outcome.status, outcome.stderr.count("bad/record.json is damaged")) == (0, 1)
        assert "box" in outcome.stdout
    assert "damaged" not in box.machine("top", "--no-stream", "box").stderr
    with box.popen("top", "--all", "--interval", "1") as process:
        assert process.stdout is not None
        for _ in range(6):
            process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=COMMAND_S)
    assert errors.count("bad/record.json is damaged") == 1


def test_it_goes_on_until_it_is_interrupted(box: World) -> None:
    with box.popen("top", "--all", "--interval", "1") as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(4)]
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=COMMAND_S)
    assert process.returncode == 130
    assert lines[0] == lines[2]  # a table every second
    assert lines[1].startswith("box ")
