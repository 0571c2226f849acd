"""Benchmark of a machine's recovery from disturbances, and of the forwarding of a container's ports at its restarts.

A machine has recovered when its API answers, its state is `running`, and a container's published ports are served. The
time counts from the end of the disturbance or, if the guest had to boot, from the start of its container.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
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
        """Run a command of QEMU's human monitor."""

        async def run() -> None:
            client = QMPClient("bench")
            await client.connect(str(self.socket("qmp-tools.sock")))
            await client.execute("human-monitor-command", {"command-line": line})
            await client.disconnect()

        asyncio.run(run())

    def state(self) -> str:
        state = control.query_state(self.socket("control.sock"))
        return f"{state.state} ({state.reason})" if state and state.reason else str(state and state.state)

    def is_back(self) -> bool:
        with contextlib.suppress(MachineError):
            asyncio.run(api.ping(self.socket("podman.sock"), timeout_s=1))
            return self.state() == State.RUNNING
        return False

    def publish(self) -> list[str]:
        """Run a container that is published on two addresses of the host, one by each port driver."""
        # Two ports, since in the guest Podman listens on all addresses.
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
        """Return the time of the container's last start, in seconds since the epoch, by the guest's clock."""
        template = "{{.State.StartedAt.UnixMilli}}"
        return int(self.bench.podman(NAME, "inspect", "--format", template, "web")) / 1000


def is_served(addresses: Iterable[str]) -> bool:
    """Return whether requests to all addresses are answered, with any status."""
    for address in addresses:
        try:
            urllib.request.urlopen(f"http://{address}/", timeout=2)
        except urllib.error.HTTPError:
            continue
        except OSError:
            return False
    return True


def count_forwarded(machine: Machine, addresses: Iterable[str]) -> int:
    """Restart the container `RESTARTS` times; returns how often its ports were forwarded."""
    served = 0
    for _ in range(RESTARTS):
        machine.bench.podman(NAME, "stop", "-t", "0", "web")
        machine.bench.podman(NAME, "start", "web")
        until = time.monotonic() + GONE_S
        while not (answered := is_served(addresses)) and time.monotonic() < until:
            time.sleep(0.1)
        served += answered
    return served


def disturbances(machine: Machine) -> Iterator[tuple[str, Callable[[], None] | None, Callable[[], None]]]:
    """Yield the name of each disturbance, the function that begins it, if it lasts, and the one that ends it."""
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
        for name, begin, end in disturbances(machine):
            if begin:
                begin()
                time.sleep(GONE_S)
            meanwhile = machine.state()
            end()
            ended = time.time()
            until = time.monotonic() + BACK_S
            while not (machine.is_back() and is_served(addresses)):
                if time.monotonic() > until:
                    raise TimeoutError(f"{name}: the machine did not recover within {BACK_S} s: {machine.state()}")
                time.sleep(0.1)
            back = time.time()
            ended = max(ended, machine.container_started())
            show(f"{name}: recovery, s", back - ended, TARGET_S, f"meanwhile {meanwhile}")
        served = count_forwarded(machine, addresses)
        show(f"forwarded after {RESTARTS} restarts of a container", served, RESTARTS, "times")
    finally:
        bench.clear()


if __name__ == "__main__":
    main()
