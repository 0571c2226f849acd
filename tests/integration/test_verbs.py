"""The verbs on machines that are there: a real QEMU that never boots, and several machines at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from machine import lock
from machine.control import Command
from machine.model.state import MachineState, State
from machine.supervisor.control_server import ControlServer
from machine.supervisor.progress import ProgressBroadcaster
from tests.support.disk_images import Images
from tests.support.golden import Golden
from tests.support.processes import is_idle, machine_processes
from tests.support.start import starting
from tests.support.transcripts import refuse, transcript
from tests.support.waiting import wait_until
from tests.support.world import COMMAND_S, Outcome, World


def record(world: World, name: str = "box") -> Path:
    return world.machines / name / "record.json"


def succeed(outcome: Outcome, stdout: str = "") -> Outcome:
    assert (outcome.status, outcome.stdout) == (0, stdout), outcome.stderr
    return outcome


# protect, rm and reset


def test_protected_machine_is_not_removed(box: World, images: Images, golden: Golden) -> None:
    box.must("protect", "box")
    assert box.inspect("box")["Machine"]["Protected"] is True
    for words in (["rm", "box"], ["rm", "--force", "box"], ["reset"], ["reset", "--force"]):
        refuse(golden, box, *words, case=" ".join(words))
    box.init("other", images.qcow2)
    both = box.machine("rm", "--force", "--all")
    golden.matches(transcript(box, both, "rm", "--force", "--all"), "beside another")
    assert box.machine("ls", "-q").stdout == "box*\n"
    box.must("unprotect", "box")
    box.must("rm", "--force", "box")


def test_rm_of_several_asks_once_and_goes_on_without_those_that_are_not_there(box: World, images: Images) -> None:
    box.init("other", images.qcow2)
    asked = box.machine("rm", "box", "nosuch", "other", stdin="y\n")
    assert (asked.status, asked.stderr) == (125, "Error: nosuch: VM does not exist; the machines are: box, other\n")
    assert asked.stdout.count("[y/N]") == 1
    assert str(box.machines / "other" / "disk.qcow2") in asked.stdout.splitlines()
    assert box.machine("ls", "-q").stdout == ""


def test_reset_asks_as_podman_does_and_removes_everything(box: World, golden: Golden) -> None:
    (box.home / "data" / "keys").mkdir()
    (box.home / "data" / "keys" / "mine.gpg").write_text("x")
    refused = box.machine("reset", stdin="n\n")
    golden.matches(transcript(box, refused, "reset", stdin="n\n"))
    nobody = box.machine("reset", stdin="")
    assert (nobody.status, nobody.stderr) == (125, "Error: EOF; to go on without a question, add --force\n")
    assert (box.machines / "box" / "disk.qcow2").exists()
    with starting(box) as process:
        box.must("reset", "--force")
        process.communicate(timeout=COMMAND_S)
    assert box.machine("ls", "-q").stdout == ""
    assert not list(box.cache.glob("sha256-*"))
    assert box.connections == {"Default": "", "Connections": {}}
    assert (box.home / "data" / "keys" / "mine.gpg").exists()
    assert box.machine("reset", stdin="n\n").status == 0


# Machines that run


def test_machine_that_runs_is_not_changed(box: World, golden: Golden) -> None:
    with starting(box) as process:
        before = record(box).read_bytes()
        for words in (["set", "--cpus", "1", "box"], ["rename", "box", "bax"], ["rm", "box"]):
            golden.matches(transcript(box, box.machine(*words), *words), words[0])
        assert record(box).read_bytes() == before
        box.must("protect", "box")
        box.must("unprotect", "box")
        status = box.machine("status", "box")
        assert (status.status, status.stdout) == (3, "starting\n")
        succeed(box.machine("kill", "box"), 'Machine "box" killed successfully\n')
        process.communicate(timeout=COMMAND_S)
    assert machine_processes(box.home) == []


def test_kill_and_stop_of_a_stopped_machine_are_success(box: World) -> None:
    succeed(box.machine("kill", "box"), 'Machine "box" killed successfully\n')
    succeed(box.machine("stop", "box"), 'Machine "box" stopped successfully\n')


def test_status_of_one_is_a_word_and_of_several_a_table(box: World) -> None:
    one = box.machine("status", "box")
    assert (one.status, one.stdout, one.stderr) == (3, "stopped\n", "")
    several = box.machine("status", "box", "nosuch")
    assert (several.status, several.stderr) == (125, "Error: nosuch: VM does not exist; the only machine is box\n")
    assert [line.split() for line in several.stdout.splitlines()] == [["NAME", "STATE", "REASON"], ["box", "stopped"]]
    described = box.machine("status", "--all", "--format", "json")
    assert json.loads(described.stdout) == [{"Name": "box", "State": "stopped", "Reason": ""}]
    assert described.status == 3


def test_wait_ends_when_it_holds_or_its_time_is_up(box: World, golden: Golden) -> None:
    box.must("wait", "--for", "stopped", "box")
    late = box.machine("wait", "--timeout", "1", "box")
    golden.matches(transcript(box, late, "wait", "--timeout", "1", "box"))
    with starting(box) as process, box.popen("wait", "--for", "stopped", "box") as waiting:
        time.sleep(0.5)
        assert waiting.poll() is None
        box.machine("kill", "box")
        assert waiting.communicate(timeout=COMMAND_S) == ("", "")
        process.communicate(timeout=COMMAND_S)
    assert waiting.returncode == 0


class RunningMachine:
    """A supervisor's answers, of a machine that runs."""

    state = MachineState(state=State.RUNNING)

    def stop(self, *, at_once: bool) -> None: ...

    def suspend(self) -> None: ...

    async def carry_out(self, command: Command, value: str) -> dict[str, object]:
        return {command: value}


@contextlib.contextmanager
def running(world: World) -> Iterator[None]:
    """As the machine `box` looks from outside when it runs: its lock, its control socket, its Podman's API."""
    root = Path(world.inspect("box")["Machine"]["Sockets"]["Rootless"]).parent
    root.mkdir(parents=True)
    descriptor = lock.acquire(world.machines / "box" / "lock")
    assert descriptor is not None
    ended = threading.Event()

    async def ping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nOK")
        await writer.drain()
        writer.close()

    async def serve() -> None:
        control = ControlServer(RunningMachine(), stopping=ProgressBroadcaster())
        async with (
            await control.serve(root / "control.sock"),
            await asyncio.start_unix_server(ping, root / "podman.sock"),
        ):
            await asyncio.to_thread(ended.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        wait_until((root / "podman.sock").exists)
        yield
    finally:
        ended.set()
        thread.join()
        os.close(descriptor)


def test_machine_that_runs_is_running_for_everybody(box: World, golden: Golden) -> None:
    with running(box):
        succeed(box.machine("status", "box"), "running\n")
        box.must("wait", "box")
        box.must("wait", "--for", "api", "--timeout", "5", "box")
        refused = box.machine("start", "--all")
        assert (refused.status, refused.stdout, refused.stderr) == (0, "", "")
        again = box.machine("start", "box")
        golden.matches(transcript(box, again, "start", "box"), "another start")
        Path(box.inspect("box")["Machine"]["Sockets"]["Rootless"]).unlink()
        late = box.machine("wait", "--for", "api", "--timeout", "1", "box")
    golden.matches(transcript(box, late, "wait", "--for", "api", "--timeout", "1", "box"), "API without a socket")


def test_restart_starts_a_machine_anew(box: World) -> None:
    qemu = box.machines / "box" / "lock"
    with starting(box) as first:
        pid = lock.holder_pid(qemu)
        with box.popen("restart", "box") as second:
            first.communicate(timeout=COMMAND_S)
            wait_until(lambda: lock.holder_pid(qemu) not in (None, pid))
            box.machine("kill", "box")
            _, stderr = second.communicate(timeout=COMMAND_S)
    assert first.returncode == 125
    assert second.returncode == 125
    assert stderr.endswith('Error: unable to start "box": it was stopped\n')


def test_events_follow_every_machine(box: World, images: Images) -> None:
    with box.popen("events", "--format", "json", PYTHONUNBUFFERED="1") as events:
        assert events.stdout is not None
        wait_until(lambda: is_idle(events.pid), "events to follow")
        box.init("other", images.qcow2)
        made = json.loads(events.stdout.readline())
        box.machine("rm", "--force", "other")
        gone = json.loads(events.stdout.readline())
        events.send_signal(signal.SIGINT)
        events.communicate(timeout=COMMAND_S)
    assert [(made["Name"], made["From"], made["To"]), (gone["Name"], gone["From"], gone["To"])] == [
        ("other", None, "stopped"), ("other", "stopped", None),
    ]  # fmt: skip
    assert events.returncode == 130


# Several at once


@contextlib.contextmanager
def both_starting(world: World, images: Images) -> Iterator[subprocess.Popen[str]]:
    """A start of `box` and `two` that has come as far as both QEMUs."""
    world.init("two", images.qcow2)
    with world.popen("start", "box", "two") as process:
        locks = [world.machines / name / "lock" for name in ("box", "two")]
        wait_until(lambda: all(map(lock.holder_pid, locks)) and len(machine_processes(world.home)) == 4)
        yield process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_interrupted_start_of_several_leaves_no_process(box: World, images: Images, number: signal.Signals) -> None:
    with both_starting(box, images) as process:
        process.send_signal(number)
        process.communicate(timeout=COMMAND_S)
    assert process.returncode == 130
    assert machine_processes(box.home) == []
    assert "running" not in box.machine("status", "--all").stdout


def test_start_of_several_tells_every_error_and_each_machine(box: World, images: Images) -> None:
    with both_starting(box, images) as process:
        killed = box.machine("kill", "--all")
        _, stderr = process.communicate(timeout=COMMAND_S)
    assert sorted(killed.stdout.splitlines()) == [f'Machine "{name}" killed successfully' for name in ("box", "two")]
    assert process.returncode == 125
    lines = stderr.splitlines()
    assert {f"{name}: Booting the guest for the first time" for name in ("box", "two")} < set(lines)
    assert sorted(line for line in lines if line.startswith("Error")) == [
        f'Error: unable to start "{name}": it was stopped' for name in ("box", "two")
    ]


def test_one_that_fails_does_not_stop_the_others(box: World, images: Images) -> None:
    box.init("two", images.qcow2)
    record(box, "two").write_text("{")
    outcome = box.machine("set", "--cpus", "1", "two")
    assert outcome.stderr.startswith(f"Error: the record {record(box, 'two')} is damaged: ")
    outcome = box.machine("stop", "nosuch", "two", "box", "box")  # a stop needs no record
    assert outcome.status == 125
    assert sorted(outcome.stdout.splitlines()) == [
        'Machine "box" stopped successfully',
        'Machine "two" stopped successfully',
    ]
    assert outcome.stderr == "Error: nosuch: VM does not exist; the machines are: box, two\n"


@pytest.mark.linux("its text names the packages of this Linux")
def test_error_without_a_name_is_told_with_it(box: World, images: Images, golden: Golden) -> None:
    box.init("two", images.qcow2)
    box.without("qemu-system-x86_64")
    outcome = box.machine("start", "--quiet", "--all")
    assert (outcome.status, outcome.stdout) == (125, "")
    golden.matches("\n".join(sorted(outcome.stderr.splitlines())))


def test_all_of_none_is_nothing_to_do(world: World) -> None:
    for verb in ("start", "stop", "restart", "kill", "rm"):
        assert world.must(verb, "--all").stderr == ""


@pytest.mark.parametrize("verb", ["set", "protect", "unprotect", "restart", "kill", "status", "wait"])
def test_machine_that_does_not_exist(verb: str, world: World, golden: Golden) -> None:
    refuse(golden, world, verb, "nosuch")
