"""What counts as use of a machine: processes of this host as a guest's, and clients of a real SSH master and sshd."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from machine import lock
from machine.model.idle import Activity
from machine.model.ports import Forward, PortState, PortStatus, parse_forward
from machine.ports.forwarding import Forwarding
from machine.sockets import new_path
from machine.ssh.command import command_argv, control_argv, master_argv, session_argv
from machine.store.ssh_ports import choose
from machine.supervisor.idle_watch import GuestActivity
from tests.support.sshd import Sshd
from tests.support.waiting import wait_until

pytestmark = pytest.mark.linux("only Linux lists the connections of others")

WAIT_S = 60
SLEEP_S = "60"


class OneForward(Forwarding):
    """Has one open forward."""

    def __init__(self, text: str) -> None:
        self.forward = parse_forward(text)

    def statuses(self) -> list[tuple[Forward, PortStatus]]:
        return [(self.forward, PortStatus(state=PortState.OPEN))]


@dataclass(frozen=True, kw_only=True)
class Used:
    """A machine whose master runs, and whose guest is this host."""

    sshd: Sshd
    activity: GuestActivity
    control: Path
    port: int
    api: Path
    guest_api: socket.socket

    def look(self) -> Activity:
        return asyncio.run(self.activity.look())


@pytest.fixture
def used(sshd: Sshd, short_path: Path) -> Iterator[Used]:
    control, api, port = short_path / "ctl", short_path / "api.sock", choose(())
    with ExitStack() as stack:
        inside = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        guest_api = stack.enter_context(socket.socket(socket.AF_UNIX))
        guest_api.bind(str(short_path / "inside.sock"))
        guest_api.listen()
        argv = master_argv(sshd.target, control, {new_path(api): str(short_path / "inside.sock")})
        master = stack.enter_context(subprocess.Popen(argv, stderr=subprocess.DEVNULL))
        stack.callback(master.kill)
        wait_until(lambda: new_path(api).exists() and control.exists(), "the master", timeout_s=WAIT_S)
        new_path(api).replace(api)
        ends = (f"127.0.0.1:{port}", f"127.0.0.1:{inside.getsockname()[1]}")
        subprocess.run(control_argv(sshd.target, control, "forward", *ends), check=True, timeout=WAIT_S)
        activity = GuestActivity(
            ports=OneForward(f"127.0.0.1:{port}:80"),
            ssh_port=sshd.target.port,
            api_sockets=(api,),
            console_lock=short_path / "console.lock",
            ssh=lambda command: command_argv(sshd.target, control, command),
            pids=lambda: [master.pid],
            counts_containers=True,
            time_scale=1,
        )
        activity.connections()  # those until now
        yield Used(sshd=sshd, activity=activity, control=control, port=port, api=api, guest_api=guest_api)


def test_running_containers_are_counted_by_the_process_beside_each(used: Used, short_path: Path) -> None:
    sleep = shutil.which("sleep")
    assert sleep
    before = used.look()
    assert before.connections == 0
    assert before.containers is not None
    with ExitStack() as stack:
        for name in ("conmon", "conmonitor", "xconmon"):
            shutil.copy(sleep, short_path / name)
        for name in ("conmon", "conmon", "conmonitor", "xconmon", "conmon"):
            process = stack.enter_context(subprocess.Popen([short_path / name, SLEEP_S]))
            stack.callback(process.kill)
        assert used.look() == Activity(connections=0, containers=before.containers + 3)
    assert used.look() == before


def test_guest_that_cannot_be_asked_has_an_unknown_number_of_containers(used: Used) -> None:
    used.sshd.signal_sessions(signal.SIGKILL)
    wait_until(lambda: not used.control.exists(), "the master's end", timeout_s=WAIT_S)
    assert used.look().containers is None


def test_session_of_the_user_is_use_and_the_masters_own_connection_is_not(used: Used) -> None:
    assert used.activity.connections() == 0
    line = shlex.join(session_argv(used.sshd.target, ["sleep", SLEEP_S], no_input=True))
    subprocess.run(["sh", "-c", f"{line} >/dev/null 2>&1 &"], check=True)  # no child of ours
    try:
        wait_until(used.activity.connections, "the session", timeout_s=WAIT_S)
    finally:
        used.sshd.signal_sessions(signal.SIGKILL)


def test_client_of_a_forward_is_use(used: Used) -> None:
    assert used.activity.connections() == 0
    with socket.create_connection(("127.0.0.1", used.port)):
        assert used.activity.connections() > 0


def test_client_of_the_api_is_use_until_the_look_after_its_end(used: Used) -> None:
    assert used.activity.connections() == 0
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(used.api))
        assert used.activity.connections() > 0
        assert used.activity.connections() > 0
        used.guest_api.accept()[0].close()
    wait_until(lambda: used.activity.connections() == 0, "the connection's end", timeout_s=WAIT_S)


def test_terminal_at_the_console_is_use(used: Used) -> None:
    path = used.activity.console_lock
    assert used.activity.connections() == 0
    with lock.held(path):
        assert used.activity.connections() == 1
    assert used.activity.connections() == 0
