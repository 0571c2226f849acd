"""The start of a machine whose disk is empty: a real QEMU that never boots, which is all that these tests need."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time

import pytest

from machine import lock
from machine.sockets import listens
from tests.support.processes import machine_processes
from tests.support.start import control_socket, starting
from tests.support.waiting import wait_until
from tests.support.world import COMMAND_S, World


def state(world: World) -> str:
    listed = json.loads(world.machine("ls", "--format", "json").stdout)
    return str(listed[0]["State"])


def test_stop_during_a_start_ends_it_and_tells_who_waits(box: World) -> None:
    path = control_socket(box)
    with box.popen("start", "box") as process:
        wait_until(lambda: listens(path), "the supervisor")
        assert state(box) == "starting"
        second = box.machine("start", "box")
        assert (second.status, second.stderr) == (125, 'Error: unable to start "box": already starting\n')
        stopped = box.machine("stop", "box")
        _, stderr = process.communicate(timeout=COMMAND_S)
    assert stopped.status == 0, stopped.stderr
    assert process.returncode == 125
    assert stderr.endswith('Error: unable to start "box": it was stopped\n')
    assert machine_processes(box.home) == []


def test_machine_whose_sockets_are_gone_is_stopped_by_its_supervisor(box: World) -> None:
    with starting(box) as process:
        shutil.rmtree(control_socket(box).parent)
        stopped = box.machine("stop", "box")
        process.communicate(timeout=COMMAND_S)
    assert stopped.status == 0, stopped.stderr
    assert machine_processes(box.home) == []


def test_machine_with_a_frozen_qemu_and_no_supervisor_is_removed_by_force(box: World) -> None:
    with starting(box) as process:
        qemu = lock.holder_pid(box.machines / "box" / "lock")
        assert qemu is not None
        os.kill(qemu, signal.SIGSTOP)
        assert lock.signal_holder(box.machines / "box" / "supervisor.lock", signal.SIGKILL)
        assert process.communicate(timeout=COMMAND_S)[1].endswith("its supervisor ended; see " + log_of(box))
    assert state(box) == "degraded"
    removed = box.machine("rm", "--force", "box")
    assert removed.status == 0, removed.stderr
    assert machine_processes(box.home) == []


def log_of(world: World) -> str:
    return f"{world.machines / 'box' / 'supervisor.log'}\n"


def test_accelerator_that_does_not_exist_is_refused(box: World) -> None:
    failed = box.machine("start", "box", MACHINE_ACCEL="warp")
    assert failed.status == 125
    assert failed.stderr.endswith(
        'Error: MACHINE_ACCEL="warp" is not an accelerator; choose one of: auto, kvm, hvf, tcg\n'
    )


def test_start_names_what_qemu_said_when_it_ends_at_once(box: World) -> None:
    (box.machines / "box" / "config.ign").unlink()
    failed = box.machine("start", "box")
    assert failed.status == 125
    assert 'Error: unable to start "box" in phase launch: QEMU exited with status 1: ' in failed.stderr
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
        assert machine_processes(box.home) == [], after_s
    assert state(box) == "stopped"
