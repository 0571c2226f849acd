"""An init that is ended in the middle: by ^C, by SIGTERM, by SIGKILL. Nobody ever sees half a machine."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from machine.store.names import NO_MACHINES
from tests.support.disk_images import Images
from tests.support.http_server import Fault, ImageServer
from tests.support.streams import PACKED, part_of, stream
from tests.support.waiting import wait_until
from tests.support.world import COMMAND_S, World


def slow(world: World, tool: str, moment: str = "") -> Path:
    """Make the real `tool` slow to begin (where its words hold `moment`); returns the file that tells of it."""
    real = (world.bin / tool).readlink()
    (world.bin / tool).unlink()
    begun = world.root / f"{tool}.begun"
    script = world.bin / tool
    script.write_text(
        f'#!/bin/sh\ncase "$*" in *"{moment}"*) echo x > "{begun}"; /bin/sleep 60;; esac\nexec {real} "$@"\n'
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return begun


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    wait_until(lambda: condition() or process.poll() is not None, every_s=0.02)
    assert process.poll() is None, process.communicate()


def end(process: subprocess.Popen[str], number: signal.Signals) -> tuple[int, str]:
    """Signal the whole group, as a terminal does."""
    os.killpg(process.pid, number)
    _, stderr = process.communicate(timeout=COMMAND_S)
    return process.returncode, stderr


def directories(world: World) -> list[str]:
    return [path.name for path in world.machines.iterdir() if path.is_dir()] if world.machines.exists() else []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_init_leaves_nothing(number: signal.Signals, world: World, images: Images) -> None:
    begun = slow(world, "qemu-img", "create")
    with world.popen("init", "--image", images.qcow2, "box") as process:
        wait_for(begun.exists, process)
        status, stderr = end(process, number)
    assert status == 130
    assert "Error" not in stderr
    assert "Traceback" not in stderr
    assert directories(world) == []
    assert world.connections == {}


def test_interrupted_up_leaves_the_machines_that_are_whole(world: World, images: Images) -> None:
    (world.root / "machines.toml").write_text(f'[defaults]\nimage = "{images.qcow2}"\n[machine.box]\n[machine.other]\n')
    begun = slow(world, "qemu-img", "/.other.")
    with world.popen("up") as process:
        wait_for(begun.exists, process)
        status, stderr = end(process, signal.SIGINT)
    assert status == 130
    assert "Traceback" not in stderr
    assert directories(world) == ["box"]
    assert sorted(world.connections["Connections"]) == ["box", "box-root"]
    planned = world.must("up", "--dry-run").stdout.splitlines()[1:]
    assert [line.split(maxsplit=2) for line in planned] == [
        ["box", "stopped", "start"],
        ["other", "-", "make and start"],
    ]


def test_interrupted_download_is_kept_for_the_next_init(world: World, images: Images, server: ImageServer) -> None:
    base = stream(world, server, images)
    server.documents[PACKED].faults.append(Fault(stall_after=1_500_000))
    words = ("init", "--image", "stable", "--stream-base-url", base, "box")
    with world.popen(*words) as process:
        wait_for(server.stalled.is_set, process)
        part = part_of(world, images)
        wait_for(lambda: part.exists() and part.stat().st_size > 0, process)
        assert end(process, signal.SIGINT)[0] == 130
    have = part_of(world, images).stat().st_size
    assert 0 < have <= 1_500_000
    assert directories(world) == []
    outcome = world.machine(*words)
    assert outcome.status == 0, outcome.stderr
    assert server.ranges_of(PACKED) == [None, f"bytes={have}-"]


def test_killed_init_is_never_seen_and_the_next_one_sweeps(world: World, images: Images) -> None:
    begun = slow(world, "qemu-img", "create")
    with world.popen("init", "--image", images.qcow2, "box") as process:
        wait_for(begun.exists, process)
        status, _ = end(process, signal.SIGKILL)
    assert status == -signal.SIGKILL
    (left,) = directories(world)
    assert left.startswith(".box.")
    assert world.machine("ls", "-q").stdout == ""
    assert world.machine("inspect", left).stderr == f"Error: {left}: VM does not exist; {NO_MACHINES}\n"
    (world.bin / "qemu-img").unlink()
    (world.bin / "qemu-img").symlink_to("/usr/bin/qemu-img")
    world.init("other", images.qcow2)
    assert directories(world) == ["other"]


def test_two_inits_of_one_name_make_one_machine(world: World, images: Images) -> None:
    words = ("init", "--image", images.qcow2, "box")
    with world.popen(*words) as first, world.popen(*words) as second:
        outcomes = [(process.communicate(timeout=COMMAND_S)[1], process.returncode) for process in (first, second)]
    assert sorted(status for _, status in outcomes) == [0, 125]
    (line,) = [stderr.splitlines()[-1] for stderr, status in outcomes if status]
    assert line.startswith(('Error: machine "box" already exists', 'Error: system connection "box" already'))
    assert world.machine("ls", "-q").stdout == "box*\n"
    assert directories(world) == ["box"]


def test_many_inits_at_once_reserve_a_port_each(world: World, images: Images) -> None:
    names = ["one", "two", "three", "four"]
    with contextlib.ExitStack() as stack:
        for process in [stack.enter_context(world.popen("init", "--image", images.qcow2, name)) for name in names]:
            _, stderr = process.communicate(timeout=COMMAND_S)
            assert process.returncode == 0, stderr
    assert len({world.inspect(name)["SSHConfig"]["Port"] for name in names}) == 4
    assert len(world.connections["Connections"]) == 8
