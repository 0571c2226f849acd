"""The verbs on machines that are there: real disks, records, clients' files, and a real QEMU that never boots."""

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
from machine.supervisor.control import ControlServer
from machine.supervisor.progress import ProgressBroadcaster
from tests.support.clients import connections_of, docker_meta
from tests.support.disk_images import Images, qemu_img
from tests.support.golden import Golden
from tests.support.processes import machine_processes
from tests.support.start import starting
from tests.support.transcripts import refuse, transcript
from tests.support.waiting import wait_until
from tests.support.world import COMMAND_S, Outcome, World

GIB = 1024**3


@pytest.fixture
def box(world: World, images: Images) -> Iterator[World]:
    """A world with the machine `box`, of which nothing runs in the end."""
    world.init("box", images.qcow2, "--disk-size", "7")
    yield world
    for name in sorted(path.name for path in world.machines.glob("[!.]*") if path.is_dir()):
        world.machine("unprotect", name)
        world.machine("rm", "--force", name)
    assert machine_processes(world.home) == []


def record(world: World, name: str = "box") -> Path:
    return world.machines / name / "record.json"


def succeed(outcome: Outcome, stdout: str = "") -> Outcome:
    assert (outcome.status, outcome.stdout) == (0, stdout), outcome.stderr
    return outcome


def virtual_gib(world: World, name: str = "box") -> float:
    document = json.loads(qemu_img("info", "--output=json", world.machines / name / "disk.qcow2"))
    return float(document["virtual-size"]) / GIB


# set


def test_set_changes_what_is_asked_for_in_silence(box: World) -> None:
    assert box.must("set", "--cpus", "1", "--memory", "700", "box").stderr == ""
    resources = box.inspect("box")["Resources"]
    assert (resources["CPUs"], resources["Memory"], resources["DiskSize"]) == (1, 700, 7)
    assert box.must("set", "box").stderr == ""


def test_set_grows_the_disk_of_a_machine_that_has_been_up(box: World, golden: Golden) -> None:
    box.edit_record("box", guest={"provisioned": True})
    grown = box.must("set", "--disk-size", "9", "box")
    golden.matches(transcript(box, grown, "set", "--disk-size", "9", "box"))
    assert (virtual_gib(box), box.inspect("box")["Resources"]["DiskSize"]) == (9, 9)


def test_disk_of_a_machine_that_never_was_up_has_the_new_size_at_its_start(box: World) -> None:
    assert box.must("set", "--disk-size", "9", "box").stderr == ""
    with starting(box) as process:
        box.machine("kill", "box")
        process.communicate(timeout=COMMAND_S)
    assert virtual_gib(box) == 9


def test_set_of_a_disk_that_grew_before_a_kill_ends_what_was_begun(box: World, golden: Golden) -> None:
    box.edit_record("box", guest={"provisioned": True})
    qemu_img("resize", "-q", box.machines / "box" / "disk.qcow2", "9G")
    refuse(golden, box, "set", "--disk-size", "8", "box")
    box.must("set", "--disk-size", "9", "box")
    assert (virtual_gib(box), box.inspect("box")["Resources"]["DiskSize"]) == (9, 9)


BAD_CHANGES = {
    "equal disk": ["--disk-size", "7"],
    "smaller disk": ["--disk-size", "6"],
    "one bad thing of several": ["--disk-size", "9", "--cpus", "99999"],
    "memory": ["--memory", "99999999"],
    "username": ["--username", "me"],
    "boolean as pflag would not read it": ["--rootful", "false"],
}


@pytest.mark.parametrize("what", BAD_CHANGES)
def test_change_that_is_refused_changes_nothing(what: str, box: World, golden: Golden) -> None:
    box.edit_record("box", guest={"provisioned": True})
    refuse(golden, box, "set", *BAD_CHANGES[what], "box")
    assert virtual_gib(box) == 7


def test_set_with_a_damaged_connections_file_changes_nothing(box: World, golden: Golden) -> None:
    box.edit_record("box", guest={"provisioned": True})
    (box.root / "podman-connections.json").write_text("{")
    before = box.files()
    outcome = box.machine("set", "--rootful", "--disk-size", "9", "box")
    golden.matches(transcript(box, outcome, "set", "--rootful", "--disk-size", "9", "box"))
    assert {name for name, content in box.files().items() if before.get(name) != content} == set()


def test_rootful_moves_what_leads_clients_to_the_machine(box: World) -> None:
    sockets = box.inspect("box")["Machine"]["Sockets"]
    assert box.connections["Default"] == "box"
    for words, default, socket in ((["--rootful"], "box-root", "Rootful"), (["--rootful=false"], "box", "Rootless")):
        box.must("set", *words, "box")
        assert box.connections["Default"] == default
        endpoint = json.loads(docker_meta(box, "box").read_bytes())["Endpoints"]["docker"]["Host"]
        assert endpoint == f"unix://{sockets[socket]}"
        assert box.inspect("box")["ConnectionInfo"]["PodmanSocket"]["Path"] == sockets[socket]
    assert json.loads(record(box).read_bytes())["pending"]["guest_outdated"] is True


def test_rootful_leaves_a_default_that_is_another_machines(box: World, images: Images) -> None:
    box.init("other", images.qcow2)
    box.must("set", "--rootful", "other")
    assert box.connections["Default"] == "box"


def test_rootful_moves_the_default_of_an_old_podman(podman_world: World, images: Images) -> None:
    world = podman_world
    world.init("box", images.qcow2)
    world.must("set", "--rootful", "box")
    assert connections_of(world)["box-root"][1] == "true"
    world.must("rename", "box", "bax")
    assert sorted(connections_of(world)) == ["bax", "bax-root"]
    assert connections_of(world)["bax-root"][1] == "true"


def test_user_mode_networking_is_all_there_is(box: World, golden: Golden) -> None:
    assert box.must("set", "--user-mode-networking", "box").stderr == ""
    refused = box.must("set", "--user-mode-networking=false", "box")
    golden.matches(transcript(box, refused, "set", "--user-mode-networking=false", "box"))


# rename


def test_rename_takes_everything_along(box: World) -> None:
    disk = (box.machines / "box" / "disk.qcow2").stat().st_ino
    assert box.must("rename", "box", "bax").stderr == ""
    assert box.machine("ls", "-q").stdout == "bax*\n"
    assert (box.machines / "bax" / "disk.qcow2").stat().st_ino == disk
    assert (box.machines / "bax" / "known_hosts").read_text().startswith("machine-bax ssh-ed25519 ")
    sockets = box.inspect("bax")["Machine"]["Sockets"]
    assert Path(sockets["Rootless"]).parent.name == "bax"
    assert box.connections == {
        "Default": "bax",
        "Connections": {
            "bax": {"URI": f"unix://{sockets['Rootless']}"},
            "bax-root": {"URI": f"unix://{sockets['Rootful']}"},
        },
    }
    assert not docker_meta(box, "box").exists()
    assert json.loads(docker_meta(box, "bax").read_bytes())["Endpoints"]["docker"]["Host"].endswith("/bax/podman.sock")
    document = json.loads(record(box, "bax").read_bytes())
    assert document["config"]["name"] == "bax"
    assert document["pending"] == {"renamed_from": None, "rekey": False, "provision": False, "guest_outdated": True}


BAD_RENAMES = {
    "of nothing": ["nosuch", "bax"],
    "to itself": ["box", "box"],
    "to another machine": ["box", "other"],
    "to a bad name": ["box", "a/b"],
    "to a reserved name": ["box", "qemu"],
    "to a long name": ["box", "n" * 31],
    "to another connection": ["box", "far"],
    "to nothing": ["box"],
}


@pytest.mark.parametrize("what", BAD_RENAMES)
def test_rename_that_cannot_be(what: str, box: World, images: Images, golden: Golden) -> None:
    box.init("other", images.qcow2)
    path = box.root / "podman-connections.json"
    document = json.loads(path.read_bytes())
    document["Connection"]["Connections"]["far"] = {"URI": "ssh://far"}
    path.write_text(json.dumps(document))
    refuse(golden, box, "rename", *BAD_RENAMES[what])


def test_rename_that_was_killed_before_the_directory_had_moved(box: World) -> None:
    box.edit_record("box", config={"name": "bax"}, pending={"renamed_from": "box"})
    assert box.machine("ls", "-q").stdout == "box*\n"
    box.must("set", "--cpus", "1", "box")
    assert json.loads(record(box).read_bytes())["config"]["name"] == "box"
    box.must("rename", "box", "bax")


@pytest.mark.parametrize("verb", ["set", "rm --force", "rename"])
def test_rename_that_was_killed_after_the_directory_had_moved(verb: str, box: World) -> None:
    box.edit_record("box", config={"name": "bax"}, pending={"renamed_from": "box"})
    (box.machines / "box").rename(box.machines / "bax")
    assert box.machine("ls", "-q").stdout == "bax\n"
    done = succeed(box.machine(*verb.split(), "bax", *(["bex"] if verb == "rename" else [])))
    assert 'Finishing the rename of "box" to "bax"\n' in done.stderr
    assert sorted(box.connections["Connections"]) == {
        "set": ["bax", "bax-root"], "rm --force": [], "rename": ["bex", "bex-root"],
    }[verb]  # fmt: skip
    assert not docker_meta(box, "box").exists()


def test_rename_that_is_killed_at_any_moment_leaves_one_machine(box: World) -> None:
    name, other = "box", "bax"
    for step in range(14):
        with box.popen("rename", name, other) as process:
            time.sleep(0.15 + 0.02 * step)
            process.kill()
            process.communicate()
        (found,) = box.machine("ls", "-q").stdout.split()
        name = found.rstrip("*")
        other = {"box": "bax", "bax": "box"}[name]
        box.must("set", "--cpus", "1", name)
        sockets = box.inspect(name)["Machine"]["Sockets"]
        assert box.connections["Connections"] == {
            name: {"URI": f"unix://{sockets['Rootless']}"},
            f"{name}-root": {"URI": f"unix://{sockets['Rootful']}"},
        }
        assert docker_meta(box, name).exists()
        assert not docker_meta(box, other).exists()


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
    asked = box.machine("rm", "box", "nosuch", "other", typed="y\n")
    assert (asked.status, asked.stderr) == (125, "Error: nosuch: VM does not exist\n")
    assert asked.stdout.count("[y/N]") == 1
    assert str(box.machines / "other" / "disk.qcow2") in asked.stdout.splitlines()
    assert box.machine("ls", "-q").stdout == ""


def test_reset_asks_as_podman_does_and_removes_everything(box: World, golden: Golden) -> None:
    (box.home / "data" / "keys").mkdir()
    (box.home / "data" / "keys" / "mine.gpg").write_text("x")
    refused = box.machine("reset", typed="n\n")
    golden.matches(transcript(box, refused, "reset", typed="n\n"))
    nobody = box.machine("reset", typed="")
    assert (nobody.status, nobody.stderr) == (125, "Error: EOF\n")
    assert (box.machines / "box" / "disk.qcow2").exists()
    with starting(box) as process:
        box.must("reset", "--force")
        process.communicate(timeout=COMMAND_S)
    assert box.machine("ls", "-q").stdout == ""
    assert not list(box.cache.glob("sha256-*"))
    assert box.connections == {"Default": "", "Connections": {}}
    assert (box.home / "data" / "keys" / "mine.gpg").exists()
    assert box.machine("reset", typed="n\n").status == 0


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
    assert (several.status, several.stderr) == (125, "Error: nosuch: VM does not exist\n")
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
        pid = lock.holder(qemu)
        with box.popen("restart", "box") as second:
            first.communicate(timeout=COMMAND_S)
            wait_until(lambda: lock.holder(qemu) not in (None, pid))
            box.machine("kill", "box")
            _, stderr = second.communicate(timeout=COMMAND_S)
    assert first.returncode == 125
    assert second.returncode == 125
    assert stderr.endswith('Error: unable to start "box": it was stopped\n')


def test_events_follow_every_machine(box: World, images: Images) -> None:
    with box.popen("events", "--format", "json", PYTHONUNBUFFERED="1") as events:
        assert events.stdout is not None
        time.sleep(1)
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
        wait_until(lambda: all(map(lock.holder, locks)) and len(machine_processes(world.home)) == 4)
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
    outcome = box.machine("stop", "nosuch", "two", "box", "box")
    assert (outcome.status, outcome.stdout) == (125, 'Machine "box" stopped successfully\n')
    errors = sorted(outcome.stderr.splitlines())
    assert errors[0] == "Error: nosuch: VM does not exist"
    assert errors[1].startswith(f"Error: the record {record(box, 'two')} is damaged: ")
    assert len(errors) == 2


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
