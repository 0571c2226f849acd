"""Faults in which a process of the machine is killed or stopped, or its sockets are removed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from machine import control
from machine.control import Command
from tests.support.faults.fault import Ask, Cure, Fault, Shown
from tests.support.faults.folder_rig import FOLDERS, FolderRig
from tests.support.faults.rig import NAME, Rig
from tests.support.processes import children
from tests.support.waiting import wait_until
from tests.support.world import machine_program

_START = ("start", NAME)
_SILENT_S = 60.0  # longer than the SSH master is patient
_FOLDER = "/mnt/faults"
_MOUNTED_AGAIN_S = 60.0
_UNSTARTABLE = "unstartable"


@contextmanager
def supervisor_killed(rig: Rig) -> Iterator[None]:
    rig.kill(rig.supervisor)
    yield


@contextmanager
def qemu_killed(rig: Rig) -> Iterator[None]:
    """Kill QEMU when the guest has a container that cannot start after the boot."""
    create = f"podman create --name {_UNSTARTABLE} --restart always --volume ./gone:/gone busybox true"
    rig.core(f"mkdir gone && {create} && rmdir gone && sync")
    rig.kill(rig.qemu)
    yield


def removes_the_unstartable(rig: Rig) -> Iterator[str]:
    """Remove the container that `qemu_killed` has made."""
    rig.core(f"podman rm {_UNSTARTABLE}")
    yield from ()


@contextmanager
def master_killed(rig: Rig) -> Iterator[None]:
    rig.kill(rig.master)
    yield


@contextmanager
def relay_killed(rig: Rig) -> Iterator[None]:
    """Kill the program that QEMU runs for a request of the port API, in the middle of the request."""
    asking = "exec 3<>/dev/tcp/gateway.containers.internal/80; printf 'POST / HTTP/1.1\\r\\n' >&3; cat <&3"
    client = rig.world.spawn(machine_program(), "ssh", NAME, f'bash -c "{asking}"')
    relay = rig.directory / "relay.py"
    wait_until(lambda: _running(rig, str(relay)), timeout_s=30, what="the relay")
    rig.kill(*_running(rig, str(relay)))
    client.communicate(timeout=60)
    yield


def publishes(rig: Rig) -> Iterator[str]:
    """Publish a port."""
    if not rig.publishes():
        yield "a port cannot be published"


@contextmanager
def sftp_server_killed(rig: Rig) -> Iterator[None]:
    with _folder(rig):
        rig.kill(*_running(rig, "sftp-server"))
        yield


@contextmanager
def folder_session_killed(rig: Rig) -> Iterator[None]:
    with _folder(rig):
        rig.kill(*_running(rig, f"folder {_FOLDER}") or _running(rig, _FOLDER))
        yield


def mounts(rig: Rig) -> Iterator[str]:
    """Read a file of the folder that `_folder` has added. The API answers before the folder is mounted again."""
    until = time.monotonic() + _MOUNTED_AGAIN_S
    while rig.world.machine("ssh", NAME, f"cat {_FOLDER}/file").stdout != "of the host\n":
        if time.monotonic() > until:
            yield "the folder is not mounted"
            break
        time.sleep(1)
    rig.world.must("mount", "rm", NAME, _FOLDER)


@contextmanager
def virtiofsd_killed(rig: Rig) -> Iterator[None]:
    rig.kill(*(child.pid for child in children(rig.supervisor) if child.name() == "virtiofsd"))
    yield


def has_its_folder(rig: Rig) -> Iterator[str]:
    assert isinstance(rig, FolderRig)
    if not rig.has_folder():
        yield "the folder is not mounted"


@contextmanager
def _folder(rig: Rig) -> Iterator[None]:
    source = rig.world.root / "folder"
    source.mkdir(exist_ok=True)
    (source / "file").write_text("of the host\n")
    rig.world.must("mount", "add", NAME, f"{source}:{_FOLDER}")
    rig.note()
    yield


@contextmanager
def everything_killed(rig: Rig) -> Iterator[None]:
    rig.kill_all()
    yield


@contextmanager
def sockets_removed(rig: Rig) -> Iterator[None]:
    shutil.rmtree(rig.world.runtime(NAME))
    yield


@contextmanager
def supervisor_killed_and_sockets_removed(rig: Rig) -> Iterator[None]:
    rig.kill(rig.supervisor)
    shutil.rmtree(rig.world.runtime(NAME))
    yield


@contextmanager
def qemu_stopped(rig: Rig) -> Iterator[None]:
    pid, began = rig.qemu, time.monotonic()
    os.kill(pid, signal.SIGSTOP)
    yield
    time.sleep(max(0.0, began + _SILENT_S - time.monotonic()))
    os.kill(pid, signal.SIGCONT)


@contextmanager
def supervisor_stopped(rig: Rig) -> Iterator[None]:
    pid = rig.supervisor
    os.kill(pid, signal.SIGSTOP)
    yield
    os.kill(pid, signal.SIGCONT)


@contextmanager
def supervisor_stopped_for_good(rig: Rig) -> Iterator[None]:
    os.kill(rig.supervisor, signal.SIGSTOP)
    yield


@contextmanager
def client_killed_while_the_supervisor_was_stopped(rig: Rig) -> Iterator[None]:
    """End a client whose request the supervisor has not read yet, as a `machine port add` that is killed."""
    with supervisor_stopped(rig), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(rig.socket("control.sock")))
        client.sendall(control.encode({"command": Command.PORT_ADD, "value": f"127.0.0.1:{rig.free_port}:80/tcp"}))
        client.close()
        yield


def adds_nothing(rig: Rig) -> Iterator[str]:
    time.sleep(3)
    if any(str(rig.free_port) in port["host"] for port in rig.ports()):
        yield "the port was added although its client had gone"


def _running(rig: Rig, words: str) -> list[int]:
    """Return the machine's processes, apart from QEMU, whose command lines have these words."""
    return [pid for pid, line in rig.processes().items() if words in line and pid != rig.qemu]


_SILENT = "does not answer"

KILLS = (
    Fault(
        name="supervisor killed",
        provoke=supervisor_killed,
        shown=Shown(state="degraded", reason="its supervisor has ended"),
        asks=(Ask(words=("ssh", NAME, "echo reached"), says="reached", status=0, within_s=60),),
        cure=Cure(lines=(_START,), says="takes over the running guest"),
    ),
    Fault(
        name="QEMU killed",
        provoke=qemu_killed,
        shown=Shown(state="stopped"),
        asks=(Ask(words=("ssh", NAME, "true"), says="is not running"),),
        cure=Cure(lines=(_START,), says="The guest could not start a container: ", within_s=600),
        reboots=True,
        check=removes_the_unstartable,
    ),
    Fault(name="SSH master killed", provoke=master_killed),
    Fault(name="relay of the port API killed", provoke=relay_killed, check=publishes),
    Fault(name="SFTP server of a folder killed", provoke=sftp_server_killed, check=mounts),
    Fault(name="SSH session of a folder killed", provoke=folder_session_killed, check=mounts, is_long=True),
    Fault(
        name="virtiofsd killed",
        provoke=virtiofsd_killed,
        shown=Shown(state="degraded", reason="virtiofsd for"),
        asks=(
            Ask(words=("ssh", FOLDERS, "echo reached"), says="reached", status=0, within_s=60),
            Ask(words=("mount", "add", FOLDERS, "docker:/mnt/second"), says="", status=0, within_s=60),
            Ask(words=("mount", "rm", FOLDERS, "/mnt/second"), says="", status=0, within_s=60),
        ),
        cure=Cure(lines=(("stop", FOLDERS), ("start", FOLDERS)), within_s=600),
        check=has_its_folder,
        reboots=True,
        needs_folder=True,
        is_long=True,
    ),
    Fault(
        name="all processes killed",
        provoke=everything_killed,
        shown=Shown(state="stopped"),
        cure=Cure(lines=(_START,), within_s=600),
        reboots=True,
        is_long=True,
    ),
    Fault(name="runtime directory removed", provoke=sockets_removed),
    Fault(
        name="supervisor killed and runtime directory removed",
        provoke=supervisor_killed_and_sockets_removed,
        shown=Shown(state="degraded", reason="its supervisor has ended"),
        cure=Cure(lines=(("stop", NAME), _START), says="Powering the guest down over SSH...", within_s=600),
        reboots=True,
        is_long=True,
    ),
    Fault(
        name="QEMU stopped",
        provoke=qemu_stopped,
        shown=Shown(state="degraded", reason="QEMU does not answer", within_s=30),
        asks=(
            Ask(words=("ssh", NAME, "true"), says=_SILENT),
            Ask(words=("cp", "docker/config.json", f"{NAME}:/tmp"), says=_SILENT),
            Ask(words=("console", NAME), says=_SILENT, status=0),
            Ask(words=("port", "add", NAME, "8080:80"), says=_SILENT),
            Ask(words=("mount", "add", NAME, "docker:/mnt/added"), says=_SILENT),
        ),
    ),
    Fault(
        name="supervisor stopped",
        provoke=supervisor_stopped,
        shown=Shown(state="degraded", reason="its supervisor does not answer"),
        asks=(
            Ask(words=("ssh", NAME, "echo reached"), says="reached", status=0, within_s=60),
            Ask(words=("port", "add", NAME, "8080:80"), says="does not answer"),
        ),
    ),
    Fault(
        name="stopped supervisor at stop",
        provoke=supervisor_stopped_for_good,
        shown=Shown(state="degraded", reason="its supervisor does not answer"),
        cure=Cure(lines=(("stop", NAME), _START), within_s=600),
        reboots=True,
        is_long=True,
    ),
    Fault(
        name="client killed while the supervisor was stopped",
        provoke=client_killed_while_the_supervisor_was_stopped,
        check=adds_nothing,
    ),
)
