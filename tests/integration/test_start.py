"""The start of a machine whose disk is empty: a real QEMU that never boots, which is all that these tests need."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from machine.sockets import listens
from tests.integration.conftest import COMMAND_S, Images, World


@pytest.fixture
def box(world: World, images: Images) -> Iterator[World]:
    """A world with the machine `box`, of which nothing runs in the end."""
    world.init("box", images.qcow2)
    yield world
    world.machine("rm", "--force", "box")
    assert not processes(world)


def processes(world: World) -> list[str]:
    """What runs of this world's machines, by command line."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            environment = (entry.parent / "environ").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if str(world.home) in environment and ("machine.supervisor" in words or "qemu-system" in words):
            found.append(words)
    return found


def state(world: World) -> str:
    listed = json.loads(world.machine("ls", "--format", "json").stdout)
    return str(listed[0]["State"])


def control_socket(world: World) -> Path:
    return Path(world.inspect("box")["ConnectionInfo"]["PodmanSocket"]["Path"]).with_name("control.sock")


def test_stop_during_a_start_ends_it_and_tells_who_waits(box: World) -> None:
    path = control_socket(box)
    with box.popen("start", "box") as process:
        until = time.monotonic() + 20
        while not listens(path):
            assert time.monotonic() < until, process.poll()
            time.sleep(0.05)
        assert state(box) == "starting"
        second = box.machine("start", "box")
        assert (second.status, second.stderr) == (125, 'Error: unable to start "box": already starting\n')
        stopped = box.machine("stop", "box")
        _, stderr = process.communicate(timeout=COMMAND_S)
    assert stopped.status == 0, stopped.stderr
    assert process.returncode == 125
    assert stderr.endswith('Error: unable to start "box": it was stopped\n')
    assert processes(box) == []


def test_start_names_what_qemu_said_when_it_ends_at_once(box: World) -> None:
    (box.machines / "box" / "config.ign").unlink()
    failed = box.machine("start", "box")
    assert failed.status == 125
    assert 'Error: unable to start "box": in phase launch: QEMU ended with status 1: ' in failed.stderr
    assert "config.ign" in failed.stderr
    assert state(box) == "stopped"
