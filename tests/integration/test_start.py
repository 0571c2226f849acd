"""The start of a machine whose disk is empty: a real QEMU that never boots, which is all that these tests need."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from machine import lock
from machine.sockets import listens
from tests.integration.conftest import COMMAND_S, Images, World


@pytest.fixture
def box(world: World, images: Images) -> Iterator[World]:
    """A world with the machine `box`, of which nothing runs in the end."""
    world.init("box", images.qcow2)
    yield world
    if (world.machines / "box").exists():
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


@contextlib.contextmanager
def starting(world: World) -> Iterator[subprocess.Popen[str]]:
    """A start of `box` that has come as far as its QEMU."""
    with world.popen("start", "box") as process:
        tools_socket = control_socket(world).with_name("qmp-tools.sock")
        lock_file = world.machines / "box" / "lock"
        until = time.monotonic() + 20
        while not listens(tools_socket) or not lock.holder(lock_file):
            assert time.monotonic() < until, process.poll()
            time.sleep(0.05)
        yield process


def test_machine_whose_sockets_are_gone_is_stopped_by_its_supervisor(box: World) -> None:
    with starting(box) as process:
        shutil.rmtree(control_socket(box).parent)
        stopped = box.machine("stop", "box")
        process.communicate(timeout=COMMAND_S)
    assert stopped.status == 0, stopped.stderr
    assert processes(box) == []


def test_machine_with_a_frozen_qemu_and_no_supervisor_is_removed_by_force(box: World) -> None:
    with starting(box) as process:
        qemu = lock.holder(box.machines / "box" / "lock")
        assert qemu is not None
        os.kill(qemu, signal.SIGSTOP)
        assert lock.signal_holder(box.machines / "box" / "supervisor.lock", signal.SIGKILL)
        assert process.communicate(timeout=COMMAND_S)[1].endswith("its supervisor ended; see " + log_of(box))
    assert state(box) == "degraded"
    removed = box.machine("rm", "--force", "box")
    assert removed.status == 0, removed.stderr
    assert processes(box) == []


def log_of(world: World) -> str:
    return f"{world.machines / 'box' / 'supervisor.log'}\n"


def test_accelerator_that_does_not_exist_is_refused(box: World) -> None:
    failed = box.machine("start", "box", MACHINE_ACCEL="warp")
    assert failed.status == 125
    assert failed.stderr.endswith('Error: MACHINE_ACCEL="warp" is no accelerator; choose one of: auto, kvm, hvf, tcg\n')


def test_start_names_what_qemu_said_when_it_ends_at_once(box: World) -> None:
    (box.machines / "box" / "config.ign").unlink()
    failed = box.machine("start", "box")
    assert failed.status == 125
    assert 'Error: unable to start "box": in phase launch: QEMU ended with status 1: ' in failed.stderr
    assert "config.ign" in failed.stderr
    assert state(box) == "stopped"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_start_that_is_interrupted_at_any_moment_leaves_no_process(box: World, number: signal.Signals) -> None:
    for after_s in (0.1, 0.2, 0.3, 0.4, 0.6, 1.0, 2.0):
        with box.popen("start", "box") as process:
            time.sleep(after_s)
            process.send_signal(number)
            said = process.communicate(timeout=COMMAND_S)
        assert process.returncode in (130, -number), said  # the latter before our program has begun
        assert processes(box) == [], after_s
    assert state(box) == "stopped"
