"""Measures how soon a machine is back after what may happen to it: its API answers and its state is `running`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from qemu.qmp import QMPClient

from machine import control
from machine.errors import MachineError
from machine.model.state import State
from machine.podman import api
from machine.sockets import listener_pid
from scripts.bench import INIT, Bench, show

NAME = "box"
GONE_S = 60.0
BACK_S = 300.0
TARGET_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Machine:
    bench: Bench

    def socket(self, name: str) -> Path:
        return self.bench.runtime(NAME) / name

    def pid(self, listens_on: str) -> int:
        pid = listener_pid(self.socket(listens_on))
        assert pid is not None
        return pid

    def root_sh(self, script: str) -> None:
        self.bench.machine("ssh", "--username", "root", NAME, script)

    def monitor(self, line: str) -> None:
        """A line for QEMU's human monitor."""

        async def tell() -> None:
            client = QMPClient("bench")
            await client.connect(str(self.socket("qmp-tools.sock")))
            await client.execute("human-monitor-command", {"command-line": line})
            await client.disconnect()

        asyncio.run(tell())

    def state(self) -> str:
        state = control.query_state(self.socket("control.sock"))
        return f"{state.state} ({state.reason})" if state and state.reason else str(state and state.state)

    def is_back(self) -> bool:
        with contextlib.suppress(MachineError):
            asyncio.run(api.ping(self.socket("podman.sock"), timeout_s=1))
            return self.state() == State.RUNNING
        return False


def calamities(machine: Machine) -> Iterator[tuple[str, Callable[[], None] | None, Callable[[], None]]]:
    """What happens, and what makes coming back possible."""
    qemu, master = machine.pid("qmp-tools.sock"), machine.pid("ssh.ctl")
    yield "SSH master killed", None, lambda: os.kill(master, signal.SIGKILL)
    yield "sshd restarted", None, lambda: machine.root_sh("systemctl restart ssh")
    yield "QEMU stopped for 60 s", lambda: os.kill(qemu, signal.SIGSTOP), lambda: os.kill(qemu, signal.SIGCONT)
    link = "set_link net0"
    yield "network gone for 60 s", lambda: machine.monitor(f"{link} off"), lambda: machine.monitor(f"{link} on")
    yield "back to a snapshot 60 s old", lambda: machine.monitor("savevm s"), lambda: machine.monitor("loadvm s")


def main() -> None:
    root = Path(tempfile.mkdtemp(prefix="b2p-", dir="/tmp"))
    bench = Bench(root)
    machine = Machine(bench=bench)
    try:
        bench.machine(*INIT, "--now", NAME)
        for what, strike, allow in calamities(machine):
            if strike:
                strike()
                time.sleep(GONE_S)
            meanwhile = machine.state()
            began = time.monotonic()
            allow()
            while not machine.is_back():
                if time.monotonic() - began > BACK_S:
                    raise TimeoutError(f"{what}: the machine never came back: {machine.state()}")
                time.sleep(0.1)
            show(f"{what}: back after, s", time.monotonic() - began, TARGET_S, f"meanwhile {meanwhile}")
    finally:
        for name in bench.machine("ls", "-n", "-q").split():
            bench.machine("rm", "--force", name.rstrip("*"))
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
