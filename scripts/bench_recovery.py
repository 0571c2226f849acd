"""Measures how soon a machine is back after what may happen to it, and how often a container's port is forwarded.

Back means: its API answers, its state is `running`, and what a container publishes is served. The time counts from when
that is possible: the calamity is over, and a guest that had to boot has started its container.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from qemu.qmp import QMPClient

from machine import control
from machine.errors import MachineError
from machine.model.state import State
from machine.podman import api
from machine.sockets import listener_pid
from machine.store.ssh_ports import choose
from scripts.bench import INIT, Bench, show

NAME = "box"
GONE_S = 60.0
BACK_S = 300.0
TARGET_S = 10.0
RESTARTS = 100


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

    def publish(self) -> list[str]:
        """A container that serves on two addresses of the host's, one by either driver of forwards."""
        # Not of one port: in the guest Podman listens on every address.
        four, six = choose(set()), choose(set())
        with tempfile.TemporaryDirectory() as scratch:
            image = Path(scratch) / "busybox.tar"
            with tarfile.open(image, "w") as archive:
                archive.add("/bin/busybox", "bin/busybox")
            self.bench.machine("cp", str(image), f"{NAME}:busybox.tar")
        run = (
            f"set -e; podman import -q busybox.tar busybox; podman run -d --name web --restart always "
            f"-p 127.0.0.1:{four}:80 -p [::1]:{six}:80 busybox busybox httpd -f -p 80; "
            "systemctl --user enable podman-restart"
        )
        self.bench.machine("ssh", NAME, run)
        return [f"127.0.0.1:{four}", f"[::1]:{six}"]

    def container_started(self) -> float:
        """When the container last started, in seconds since the epoch, by the guest's clock."""
        written = "{{.State.StartedAt.UnixMilli}}"
        return int(self.bench.podman(NAME, "inspect", "--format", written, "web")) / 1000


def is_served(addresses: Iterable[str]) -> bool:
    """A request to each address is answered, whatever with."""
    for address in addresses:
        try:
            urllib.request.urlopen(f"http://{address}/", timeout=2)
        except urllib.error.HTTPError:
            continue
        except OSError:
            return False
    return True


def restarts(machine: Machine, addresses: Iterable[str]) -> int:
    """How often the container's ports were forwarded in RESTARTS of its starts."""
    served = 0
    for _ in range(RESTARTS):
        machine.bench.podman(NAME, "stop", "-t", "0", "web")
        machine.bench.podman(NAME, "start", "web")
        until = time.monotonic() + GONE_S
        while not (answered := is_served(addresses)) and time.monotonic() < until:
            time.sleep(0.1)
        served += answered
    return served


def calamities(machine: Machine) -> Iterator[tuple[str, Callable[[], None] | None, Callable[[], None]]]:
    """What happens, and what makes coming back possible."""
    qemu, master = machine.pid("qmp-tools.sock"), machine.pid("ssh.ctl")
    yield "SSH master killed", None, lambda: os.kill(master, signal.SIGKILL)
    yield "sshd restarted", None, lambda: machine.root_sh("systemctl restart ssh")
    yield "QEMU stopped for 60 s", lambda: os.kill(qemu, signal.SIGSTOP), lambda: os.kill(qemu, signal.SIGCONT)
    link = "set_link net0"
    yield "network gone for 60 s", lambda: machine.monitor(f"{link} off"), lambda: machine.monitor(f"{link} on")
    yield "back to a snapshot 60 s old", lambda: machine.monitor("savevm s"), lambda: machine.monitor("loadvm s")
    yield "guest rebooted", None, lambda: machine.root_sh("systemctl reboot || true")


def main() -> None:
    root = Path(tempfile.mkdtemp(prefix="b2p-", dir="/tmp"))
    bench = Bench(root)
    machine = Machine(bench=bench)
    try:
        bench.machine(*INIT, "--now", NAME)
        addresses = machine.publish()
        for what, strike, allow in calamities(machine):
            if strike:
                strike()
                time.sleep(GONE_S)
            meanwhile = machine.state()
            allow()
            possible = time.time()
            until = time.monotonic() + BACK_S
            while not (machine.is_back() and is_served(addresses)):
                if time.monotonic() > until:
                    raise TimeoutError(f"{what}: the machine never came back: {machine.state()}")
                time.sleep(0.1)
            back = time.time()
            possible = max(possible, machine.container_started())
            show(f"{what}: back after, s", back - possible, TARGET_S, f"meanwhile {meanwhile}")
        show(f"forwarded in {RESTARTS} restarts of a container", restarts(machine, addresses), RESTARTS, "times")
    finally:
        for name in bench.machine("ls", "-n", "-q").split():
            bench.machine("rm", "--force", name.rstrip("*"))
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
