"""The start of a machine whose disk is empty: a real QEMU that never boots, which is all that these tests need."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

import machine
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


def test_supervisor_that_was_stopped_by_a_signal_stops_its_machine(box: World) -> None:
    with starting(box) as process:
        supervisor = lock.holder_pid(box.machines / "box" / "supervisor.lock")
        assert supervisor is not None
        os.kill(supervisor, signal.SIGSTOP)
        stopped = box.machine("stop", "box")
        process.communicate(timeout=COMMAND_S)
    # Only the supervisor knows this.
    assert "The first boot was not complete" in stopped.stderr
    assert machine_processes(box.home) == []


def test_machine_with_a_frozen_qemu_and_no_supervisor_is_removed_by_force(box: World) -> None:
    with starting(box) as process:
        qemu = lock.holder_pid(box.machines / "box" / "lock")
        assert qemu is not None
        os.kill(qemu, signal.SIGSTOP)
        kill_supervisor(box)
        assert "its supervisor ended; see " + log_of(box) in process.communicate(timeout=COMMAND_S)[1]
    assert state(box) == "degraded"
    removed = box.machine("rm", "--force", "box")
    assert removed.status == 0, removed.stderr
    assert machine_processes(box.home) == []


def test_machine_without_supervisor_and_monitor_is_killed_by_a_signal_that_qemu_obeys(box: World) -> None:
    runtime = control_socket(box).parent
    with starting(box) as process:
        kill_supervisor(box)
        shutil.rmtree(runtime)
        process.communicate(timeout=COMMAND_S)
    assert lock.holder_pid(box.machines / "box" / "lock")
    killed = box.machine("kill", "box")
    assert (killed.status, killed.stdout) == (0, 'Machine "box" killed successfully\n')
    assert machine_processes(box.home) == []


def test_qemu_runs_nothing_of_the_installed_program(box: World) -> None:
    with starting(box) as process:
        qemu = lock.holder_pid(box.machines / "box" / "lock")
        words = Path(f"/proc/{qemu}/cmdline").read_text()
        box.machine("kill", "box")
        process.communicate(timeout=COMMAND_S)
    assert str(box.machines / "box" / "relay.py") in words
    assert str(Path(machine.__file__).parent) not in words


def test_machine_whose_record_is_damaged_is_listed_and_killed(box: World) -> None:
    record = box.machines / "box" / "record.json"
    with starting(box) as process:
        kill_supervisor(box)
        record.write_text("{")
        wait_until(lambda: state(box) == "degraded", "a state without the killed supervisor")
        killed = box.machine("kill", "box")
        process.communicate(timeout=COMMAND_S)
    assert killed.status == 0, killed.stderr
    assert machine_processes(box.home) == []
    refused = box.machine("start", "box")
    assert f"restore its last good copy with: cp {record.with_name('record.last-good.json')} {record}" in refused.stderr


def test_supervisor_writes_a_damaged_record_anew(box: World) -> None:
    record = box.machines / "box" / "record.json"
    before = json.loads(record.read_text())
    with starting(box) as process:
        record.write_text("{")
        wait_until(lambda: record.exists() and record.read_text() != "{", "the record")
        assert json.loads(record.read_text())["config"] == before["config"]
        assert record.with_name("record.damaged.json").read_text() == "{"
        box.machine("kill", "box")
        process.communicate(timeout=COMMAND_S)


def kill_supervisor(world: World) -> None:
    assert lock.signal_holder(world.machines / "box" / "supervisor.lock", signal.SIGKILL)


def log_of(world: World) -> str:
    return f"{world.machines / 'box' / 'supervisor.log'}\n"


def test_accelerator_that_does_not_exist_is_refused(box: World) -> None:
    failed = box.machine("start", "box", MACHINE_ACCEL="warp")
    assert failed.status == 125
    assert failed.stderr.endswith(
        'Error: MACHINE_ACCEL="warp" is not an accelerator; choose one of: auto, kvm, hvf, tcg\n'
    )


def test_start_names_what_qemu_said_when_it_ends_at_once(box: World) -> None:
    resources = box.record("box")["config"]["resources"]
    box.edit_record("box", config={"resources": {**resources, "memory_mib": 999_999_999}})
    failed = box.machine("start", "box")
    assert failed.status == 125
    assert 'Error: unable to start "box" in phase launch: QEMU exited with status 1: ' in failed.stderr
    assert "Cannot allocate memory" in failed.stderr
    assert state(box) == "stopped"


@pytest.mark.linux("to imitate a Mac takes long, and is interrupted")
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


def test_machine_whose_locks_were_removed_still_runs(box: World) -> None:
    """New files would be other locks, which nobody holds: a second QEMU could write to the same disk."""
    with starting(box) as process:
        for name in ("lock", "supervisor.lock"):
            (box.machines / "box" / name).unlink()
        assert state(box) == "starting"
        again = box.machine("start", "box")
        assert (again.status, again.stderr) == (125, 'Error: unable to start "box": already starting\n')
        removed = box.machine("rm", "--force", "box")
        process.communicate(timeout=COMMAND_S)
    assert removed.status == 0, removed.stderr
    assert machine_processes(box.home) == []


def test_removed_log_of_a_running_machine_is_told(box: World) -> None:
    with starting(box) as process:
        (box.machines / "box" / "serial.log").unlink()
        read = box.machine("logs", "box")
        box.machine("kill", "box")
        process.communicate(timeout=COMMAND_S)
    assert read.stderr == 'Error: the serial log of "box" was removed; the next start begins a new one\n'
