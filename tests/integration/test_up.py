"""`machine up` and `machine down`: several machines with empty disks, on which a real QEMU never boots."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import machine_processes
from tests.support.start import starting
from tests.support.waiting import wait_until
from tests.support.world import COMMAND_S, World, machine_program

DEFAULTS = '[defaults]\nimage = "/dev/null"\nmemory = 512\ncpus = 1\ndisk_size = 3\nvolume = ""\n'


@pytest.fixture
def project(world: World) -> Iterator[World]:
    """A world with a machines file for `box` and `other`; afterwards no process of a machine may be left."""
    write(world, "[machine.box]\n[machine.other]\n")
    yield world
    world.machine("rm", "--force", "--all")
    assert machine_processes(world.home) == []


def write(world: World, tables: str) -> Path:
    path = world.root / "machines.toml"
    path.write_text(DEFAULTS + tables)
    return path


def rows(stdout: str) -> list[list[str]]:
    """The words of each row of a table, without the heading."""
    return [line.split(maxsplit=2) for line in stdout.splitlines()[1:]]


def end(process: subprocess.Popen[str], number: signal.Signals) -> tuple[int, str, str]:
    """Signal the whole group, as a terminal does."""
    os.killpg(process.pid, number)
    stdout, stderr = process.communicate(timeout=COMMAND_S)
    return process.returncode, stdout, stderr


def has_qemus(world: World, count: int) -> bool:
    return sum("disk.qcow2" in line for line in machine_processes(world.home)) >= count


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_up_leaves_whole_machines_that_are_stopped(number: signal.Signals, project: World) -> None:
    with project.popen("up") as process:
        wait_until(lambda: has_qemus(project, 2), "both QEMUs", timeout_s=COMMAND_S)
        status, stdout, stderr = end(process, number)
    assert (status, stdout) == (130, "")
    assert "Traceback" not in stderr
    assert "Starting 2 machines, " in stderr
    assert machine_processes(project.home) == []
    assert rows(project.must("up", "--dry-run").stdout) == [["box", "stopped", "start"], ["other", "stopped", "start"]]
    file = str(project.root / "machines.toml")
    assert [project.inspect(name)["Machine"]["MachinesFile"] for name in ("box", "other")] == [file, file]
    project.must("clone", "box", "copy")
    assert project.record("copy")["config"]["machines_file"] is None


def test_one_that_fails_is_told_and_the_others_are_done(project: World) -> None:
    write(project, '[machine.box]\n[machine.other]\nimage = "absent.qcow2"\n')
    project.must("init", "--image", "/dev/null", "--memory", "600", "--disk-size", "3", "box")
    with starting(project) as process:
        outcome = project.machine("up")
        project.machine("kill", "box")
        process.communicate(timeout=COMMAND_S)
    assert outcome.status == 125
    assert rows(outcome.stdout) == [["box", "starting", "unchanged"], ["other", "-", "failed"]]
    assert "Error: other: " in outcome.stderr
    assert "box: memory is 600, but 512 in machines.toml" in outcome.stderr
    assert "to change this, stop the machine first: machine stop box\n" in outcome.stderr


def test_machines_that_do_not_start_are_told_one_by_one(project: World) -> None:
    for name in ("box", "other"):
        made(project, name)
        project.edit_record(name, guest={"provisioned": True})
        (project.machines / name / "disk.qcow2").unlink()
    outcome = project.machine("up")
    assert outcome.status == 125
    assert rows(outcome.stdout) == [["box", "stopped", "failed"], ["other", "stopped", "failed"]]
    errors = sorted(line for line in outcome.stderr.splitlines() if line.startswith("Error: "))
    assert len(errors) == 2
    assert ["box" in line for line in errors] == [True, False]
    assert ["other" in line for line in errors] == [False, True]


def test_stopped_machine_is_changed_before_it_starts(project: World) -> None:
    write(project, "[machine.box]\n")
    project.must("init", "--image", "/dev/null", "--memory", "600", "--disk-size", "3", "box")
    with project.popen("up") as process:
        wait_until(lambda: has_qemus(project, 1), "QEMU", timeout_s=COMMAND_S)
        assert end(process, signal.SIGINT)[0] == 130
    assert project.record("box")["config"]["resources"]["memory_mib"] == 512
    assert project.record("box")["config"]["machines_file"] is None


def test_down_stops_the_machines_of_the_file_and_no_other(project: World) -> None:
    project.must("init", "--image", "/dev/null", "--disk-size", "3", "mine")
    project.must("init", "--image", "/dev/null", "--disk-size", "3", "box")
    with starting(project) as process:
        outcome = project.must("down")
        process.communicate(timeout=COMMAND_S)
    assert outcome.stdout.splitlines()[1:] == ["box         stopped", "other       not made"]
    assert project.must("down", "box").stdout.splitlines()[1:] == ["box         already stopped"]


def test_machine_of_another_file_is_left_alone(project: World) -> None:
    other = project.root / "other.toml"
    other.write_text(write(project, "[machine.box]\n").read_text())
    project.must("init", "--image", "/dev/null", "--memory", "512", "--cpus", "1", "--disk-size", "3", "box")
    project.edit_record("box", config={"machines_file": str(other)})
    before = project.files()
    for verb in ("up", "down"):
        outcome = project.machine(verb)
        assert outcome.status == 125
        assert outcome.stderr == (
            f'Error: "box" belongs to another file, {other}; give it another name in machines.toml\n'
        )
    assert project.files() == before
    other.unlink()
    with project.popen("up") as process:
        wait_until(lambda: has_qemus(project, 1), "QEMU", timeout_s=COMMAND_S)
        assert end(process, signal.SIGINT)[0] == 130
    assert project.record("box")["config"]["machines_file"] == str(project.root / "machines.toml")


def made(world: World, name: str) -> None:
    """Make a machine, and note that the file has made it."""
    world.must("init", "--image", "/dev/null", "--memory", "512", "--cpus", "1", "--disk-size", "3", name)
    world.edit_record(name, config={"machines_file": str(world.root / "machines.toml")})


def test_prune_removes_what_the_file_has_made_and_no_longer_describes(project: World) -> None:
    for name in ("box", "old", "kept"):
        made(project, name)
    project.must("protect", "kept")
    project.must("init", "--image", "/dev/null", "--disk-size", "3", "mine")
    write(project, "[machine.box]\n")
    planned = project.must("up", "--prune", "--dry-run")
    assert rows(planned.stdout) == [["box", "stopped", "start"], ["old", "stopped", "remove"]]
    assert planned.stderr == "kept is not in machines.toml, but it is protected, so it stays\n"
    before = project.files()
    asked = project.machine("up", "--prune", stdin="n\n")
    assert asked.status == 0
    assert asked.stdout == (
        "The following machines will be deleted, with everything in them:\n\nold\n\n"
        "Are you sure you want to continue? [y/N] "
    )
    assert project.files() == before
    with starting(project) as process:
        outcome = project.must("up", "--prune", "--force")
        project.machine("kill", "box")
        process.communicate(timeout=COMMAND_S)
    assert rows(outcome.stdout) == [["box", "starting", "unchanged"], ["old", "-", "removed"]]
    assert project.must("ls", "-q").stdout.split() == ["box*", "kept", "mine"]
    project.must("unprotect", "kept")


@pytest.mark.parametrize("verb", ["up", "down"])
def test_names_of_the_file_are_completed(verb: str, project: World) -> None:
    line = {"_MACHINE_COMPLETE": "bash_complete", "COMP_WORDS": f"machine {verb} o", "COMP_CWORD": "2"}
    assert project.machine(**line).stdout.split() == ["plain,other"]
    write(project, "nonsense")
    assert project.machine(**line).stdout.split() == []


def test_up_needs_less_than_a_second_of_processor_time_to_compare(project: World) -> None:
    for name in ("box", "other"):
        project.must("init", "--image", "/dev/null", "--memory", "512", "--cpus", "1", "--disk-size", "3", name)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    project.run(machine_program(), "up", "--dry-run")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1
