"""Lookup of the processes of machines."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from machine.sockets import listener_pid

_GONE = (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess)


def command_lines() -> Iterator[tuple[psutil.Process, str]]:
    for process in psutil.process_iter():
        with contextlib.suppress(*_GONE):
            yield process, " ".join(process.cmdline())


def processes_of(directory: Path) -> dict[int, str]:
    """Find the processes whose command lines contain `directory`, such as those of machines; by process id."""
    return {process.pid: command for process, command in command_lines() if f"{directory}" in command}


def machine_processes(home: Path) -> list[str]:
    """List the command lines of the supervisors and QEMUs with this MACHINE_HOME."""
    found = []
    for process, command in command_lines():
        with contextlib.suppress(*_GONE):
            ours = "machine.supervisor" in command or "qemu-system" in command
            if ours and process.environ().get("MACHINE_HOME") == str(home):
                found.append(command)
    return found


def children(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children()


def descendants(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def is_idle(pid: int) -> bool:
    """Whether a process that has begun to work does nothing for half a second."""
    process = psutil.Process(pid)
    before = process.cpu_times().user
    for _ in range(10):
        if psutil.LINUX and process.status() != psutil.STATUS_SLEEPING:  # on a busy host, it may just get no time
            return False
        time.sleep(0.05)
    return 0 < before == process.cpu_times().user


def supervisor_pid(runtime: Path) -> int:
    """Return the process that listens on the control socket of the machine with this runtime directory."""
    return _listener(runtime / "control.sock")


def qemu_pid(runtime: Path) -> int:
    return _listener(runtime / "qmp-tools.sock")


def _listener(path: Path) -> int:
    pid = listener_pid(path)
    assert pid is not None, f"no process listens on {path}"
    return pid
