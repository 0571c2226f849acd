"""Ending a QEMU whose supervisor was killed while it saved or loaded the memory."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from machine import lock
from machine.ops.shared.leftover_qemu import end_leftover_qemu
from machine.store.paths import MachinePaths
from tests.support.builders import make_record, make_roots, save_machine


@pytest.fixture
def paths(short_path: Path) -> MachinePaths:
    return save_machine(make_roots(short_path), make_record())


@contextlib.contextmanager
def process_with_the_lock(paths: MachinePaths) -> Iterator[subprocess.Popen[bytes]]:
    """A program that holds the machine's lock as QEMU does."""
    descriptor = lock.acquire(paths.lock)
    assert descriptor is not None
    with subprocess.Popen(["sleep", "60"], pass_fds=(descriptor,)) as process:
        lock.write_holder(descriptor, process.pid)
        os.close(descriptor)  # as that of a supervisor which was killed
        yield process
        process.kill()


def test_qemu_of_a_saved_memory_is_ended_and_the_memory_stays(paths: MachinePaths) -> None:
    paths.memory.touch()
    with process_with_the_lock(paths) as qemu:
        end_leftover_qemu(paths)
        assert qemu.wait(5) < 0
    assert paths.memory.exists()
    assert not lock.is_held(paths.supervisor_lock)


def test_qemu_of_a_guest_that_may_have_run_goes_on(paths: MachinePaths) -> None:
    with process_with_the_lock(paths) as qemu:
        end_leftover_qemu(paths)
        assert qemu.poll() is None


def test_qemu_that_has_a_supervisor_goes_on(paths: MachinePaths) -> None:
    paths.memory.touch()
    with process_with_the_lock(paths) as qemu, lock.held(paths.supervisor_lock):
        end_leftover_qemu(paths)
        assert qemu.poll() is None


def test_qemu_that_is_noted_nowhere_yet_is_waited_for(paths: MachinePaths) -> None:
    paths.memory.touch()
    paths.runtime.mkdir(parents=True)
    listens_late = (
        "import socket, sys, time; time.sleep(0.5); s = socket.socket(socket.AF_UNIX);"
        "s.bind(sys.argv[1]); s.listen(); time.sleep(60)"
    )
    descriptor = lock.acquire(paths.lock)
    assert descriptor is not None
    argv = [sys.executable, "-c", listens_late, str(paths.qmp_tools_socket)]
    with subprocess.Popen(argv, pass_fds=(descriptor,)) as qemu:
        os.close(descriptor)
        end_leftover_qemu(paths)
        assert not lock.is_held(paths.lock)
        assert qemu.wait(5) < 0
