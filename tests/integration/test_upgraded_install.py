"""A program that Homebrew has installed, and upgrades while one of its machines runs; with a real QEMU."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from machine import lock
from machine.store.ssh_ports import choose
from tests.support.brewed import Brewed, brewed_program
from tests.support.port_api import listens, post_request
from tests.support.start import control_socket
from tests.support.waiting import wait_until
from tests.support.world import COMMAND_S, World


@pytest.fixture
def brewed(short_path: Path) -> Brewed:
    return brewed_program(short_path / "b")


@pytest.fixture
def qemu(box: World, brewed: Brewed) -> Iterator[psutil.Process]:
    """The QEMU of the machine `box`, started by version 1.0, which is then upgraded and removed, and so is Python."""
    with box.spawn(brewed.program, "start", "box") as start:
        wait_until(lambda: lock.holder_pid(box.machines / "box" / "lock"), "QEMU")
        wait_until(lambda: control_socket(box).with_name("ports.sock").exists(), "the port API")
        brewed.upgrade()
        pid = lock.holder_pid(box.machines / "box" / "lock")
        assert pid is not None
        yield psutil.Process(pid)
        start.communicate(timeout=COMMAND_S)


def test_machine_of_a_removed_version_publishes_ports_and_stops(
    box: World, brewed: Brewed, qemu: psutil.Process
) -> None:
    relay = next(word for word in qemu.cmdline() if "guestfwd=" in word).rpartition("-cmd:")[2].replace(",,", ",")
    assert str(brewed.prefix / "Cellar") not in relay
    port = choose(set())
    request = post_request("expose", local=f"127.0.0.1:{port}", remote=":80", protocol="tcp")
    answer = subprocess.run(shlex.split(relay), input=request, capture_output=True, check=True, timeout=COMMAND_S)
    assert answer.stdout.startswith(b"HTTP/1.1 200 OK")
    wait_until(lambda: listens(port), "the published port")
    stopped = box.run(brewed.program, "stop", "box")
    assert stopped.status == 0, stopped.stderr
    assert "Traceback" not in (box.machines / "box" / "supervisor.log").read_text()
    assert not qemu.is_running()
