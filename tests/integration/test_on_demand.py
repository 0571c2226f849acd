"""Machines that start for their first client: real processes, whose machine cannot be started or never boots."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import threading
import time
from pathlib import Path

import psutil
import pytest

from machine import lock
from tests.support.disk_images import Images
from tests.support.golden import Golden
from tests.support.hammer import connect, is_hung_up_on
from tests.support.processes import machine_processes
from tests.support.start import control_socket, put_to_sleep
from tests.support.transcripts import transcript
from tests.support.waiting import wait_until
from tests.support.world import COMMAND_S, World

CLIENTS = 50
MAX_BYTES = 25 * 1024**2
SLEEP_S = 4.0
MOST_OF_A_CPU = 0.005


def waiting_lock(world: World, name: str = "box") -> Path:
    return world.machines / name / "waiting.lock"


def holder(world: World, name: str = "box") -> int:
    pid = lock.holder_pid(waiting_lock(world, name))
    assert pid is not None, "no process waits for clients"
    return pid


def api_socket(world: World, name: str = "box") -> Path:
    return Path(world.inspect(name)["ConnectionInfo"]["PodmanSocket"]["Path"])


@pytest.mark.linux("to imitate a Mac loads many modules")
def test_waiting_process_is_small_and_idle(suspended: World) -> None:
    suspended.must("start", "--on-demand", "box")
    process = psutil.Process(holder(suspended))
    before = process.cpu_times()
    assert suspended.state("box") == ("suspended", "")
    assert process.memory_info().rss < MAX_BYTES
    wait_until(lambda: process.cpu_times().user - before.user < 0.1)
    assert process.num_threads() == 1


@pytest.mark.linux("to imitate a Mac loads many modules")
def test_ten_machines_sleep_in_little_memory_and_hardly_any_time(suspended: World, images: Images) -> None:
    names = [f"box{number}" for number in range(1, 10)]
    for name in names:
        suspended.init(name, images.qcow2)
        put_to_sleep(suspended, name)
    for name in ["box", *names]:
        suspended.must("start", "--on-demand", name)
    processes = [psutil.Process(holder(suspended, name)) for name in ["box", *names]]
    assert sum(process.memory_info().rss for process in processes) <= 10 * MAX_BYTES

    def seconds() -> float:
        return sum(times.user + times.system for times in (process.cpu_times() for process in processes))

    before = seconds()
    time.sleep(SLEEP_S)
    assert seconds() - before <= SLEEP_S * MOST_OF_A_CPU


def test_clients_of_a_machine_that_cannot_be_resumed_are_hung_up_on(suspended: World) -> None:
    suspended.must("start", "--on-demand", "box", MACHINE_ACCEL="tcg")
    api = api_socket(suspended)
    port = suspended.record("box")["config"]["ssh_port"]
    connections = [connect(api) for _ in range(CLIENTS)]
    connections += [socket.create_connection(("127.0.0.1", port), COMMAND_S) for _ in range(CLIENTS)]
    assert all(is_hung_up_on(connection) for connection in connections)
    wait_until(lambda: suspended.state("box")[1])
    state, reason = suspended.state("box")
    assert state == "suspended"
    assert reason.startswith('a client could not wake it: unable to resume "box": QEMU exited with status 1: ')
    assert f"Currently suspended ({reason})" in suspended.must("ls").stdout.replace("\n", " ")
    assert (suspended.machines / "box" / "memory.state").exists()


def test_first_client_boots_a_stopped_machine(box: World, golden: Golden) -> None:
    started = box.machine("start", "--on-demand", "box")
    golden.matches(transcript(box, started, "start", "--on-demand", "box"))
    assert box.state("box") == ("stopped", "starts for its first client")
    with connect(api_socket(box)) as first:
        wait_until(lambda: box.state("box")[0] == "starting")
        assert box.machine("start", "box").status == 125
        box.must("kill", "box")
        assert is_hung_up_on(first)
    wait_until(lambda: "it was stopped" in box.state("box")[1])
    box.must("stop", "box")
    assert box.state("box") == ("stopped", "")
    assert machine_processes(box.home) == []


def test_start_takes_over_and_a_failed_one_gives_back(box: World) -> None:
    box.must("start", "--on-demand", "box")
    pid = holder(box)
    with box.popen("start", "box") as process:
        wait_until(lambda: lock.holder_pid(box.machines / "box" / "lock") and control_socket(box).exists())
        with connect(api_socket(box)) as waits:
            box.must("kill", "box")
            assert is_hung_up_on(waits)
        process.communicate(timeout=COMMAND_S)
    assert holder(box) == pid
    wait_until(lambda: "its start has failed" in box.state("box")[1])


def test_nobody_waits_after_verbs_that_end_it(suspended: World) -> None:
    for words in (["kill", "box"], ["rm", "--force", "box"]):
        suspended.must("start", "--on-demand", "box")
        assert machine_processes(suspended.home)
        suspended.must(*words)
        assert not machine_processes(suspended.home)


def test_renamed_machine_is_waited_for_under_its_new_name(suspended: World) -> None:
    suspended.must("start", "--on-demand", "box")
    before = api_socket(suspended)
    suspended.must("rename", "box", "crate")
    assert not before.exists()
    connect(api_socket(suspended, "crate")).close()
    assert lock.holder_pid(waiting_lock(suspended, "crate"))


def test_killed_process_leaves_a_suspended_machine_that_can_be_waited_for_again(suspended: World) -> None:
    suspended.must("start", "--on-demand", "box")
    os.kill(holder(suspended), signal.SIGKILL)
    wait_until(lambda: not lock.is_held(waiting_lock(suspended)))
    assert suspended.state("box") == ("suspended", "")
    suspended.must("suspend", "box")
    connect(api_socket(suspended).with_name("podman-root.sock")).close()


def test_suspended_machine_is_there_after_a_reboot_of_the_host(suspended: World) -> None:
    suspended.must("start", "--on-demand", "box")
    os.kill(holder(suspended), signal.SIGKILL)
    wait_until(lambda: not lock.is_held(waiting_lock(suspended)))
    shutil.rmtree(api_socket(suspended).parent)  # as it is when the host has booted
    assert suspended.state("box") == ("suspended", "")
    assert "Currently suspended" in suspended.must("ls").stdout
    suspended.must("start", "--on-demand", "box")
    connect(api_socket(suspended)).close()


def test_two_commands_at_once_make_one_process(suspended: World) -> None:
    threads = [threading.Thread(target=suspended.must, args=("start", "--on-demand", "box")) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: len(machine_processes(suspended.home)) == 1)


def test_foreground_waits_until_its_machine_is_no_longer_waited_for(suspended: World) -> None:
    with suspended.popen("start", "--foreground", "--on-demand", "box") as process:
        wait_until(lambda: api_socket(suspended).exists() and lock.holder_pid(waiting_lock(suspended)))
        assert process.stdout is not None
        assert process.stdout.readline() == 'Machine "box" starts when its first client connects\n'
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=COMMAND_S)
    assert suspended.state("box") == ("suspended", "")
    assert not lock.is_held(waiting_lock(suspended))


def test_running_machine_is_not_waited_for(box: World) -> None:
    with box.popen("start", "box") as process:
        wait_until(lambda: lock.holder_pid(box.machines / "box" / "lock"))
        refused = box.machine("start", "--on-demand", "box")
        assert (refused.status, refused.stderr) == (125, 'Error: unable to start "box": already starting\n')
        box.must("kill", "box")
        process.communicate(timeout=COMMAND_S)
