"""The machine on which faults are tried: its processes, a snapshot to go back to, and what no fault may lose."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from machine.sockets import listener_pid, listens
from tests.support.free_ports import choose_port
from tests.support.guest_network import SERVE, fetch, monitor, reachable
from tests.support.guests import BOOT_S
from tests.support.processes import children, processes_of, qemu_pid, supervisor_pid
from tests.support.waiting import wait_until
from tests.support.world import Outcome, World, machine_program

NAME = "box"
KEPT = "kept"
"""The container that must outlive all faults which the guest outlives."""

KEPT_FILE = "/home/core/kept"
"""The file in the guest that no fault may lose."""

_SNAPSHOT = "faults"
_BACK_S = 120
_DURABLE_S = 12
"""After so many seconds, what a guest has written is on its disk, even if nobody has asked for that."""


@dataclass(frozen=True, kw_only=True)
class Watched:
    """How a command ended, and when it first said something."""

    outcome: Outcome
    took_s: float
    silent_s: float
    """Seconds until its first output, or until its end if it printed nothing."""

    @property
    def said(self) -> str:
        return self.outcome.stdout + self.outcome.stderr


@dataclass(kw_only=True)
class Rig:
    """A running machine with a container, a published port and a file, to which a trial returns afterwards."""

    world: World
    name: str = NAME
    port: int = 0
    """The port at which the container is published on 127.0.0.1, by QEMU."""

    port6: int = 0
    """The port at which it is published on ::1, over SSH."""

    times: int = 5
    """How often a fault that is a matter of luck is tried."""

    free_port: int = field(default_factory=choose_port)
    """A port of this host that nothing uses."""

    token: str = ""
    """What the file in the guest holds that must not be lost."""

    _started: str = ""
    _config: dict[str, object] = field(default_factory=dict)

    # Preparing

    def prepare(self) -> None:
        """Run the container, and keep a snapshot. The machine is running and has the image `busybox`."""
        self.port, self.port6 = choose_port(), choose_port()
        publish = ("-p", f"127.0.0.1:{self.port}:80", "-p", f"[::1]:{self.port6}:80")
        run = ("run", "--detach", "--name", KEPT, "--restart", "always", *publish)
        self.world.remote(self.name, *run, "busybox", "sh", "-c", SERVE)
        time.sleep(_DURABLE_S)  # no fault may lose the container
        self.save()

    def save(self) -> None:
        """Keep the guest's present state as the one to go back to."""
        wait_until(self.works, timeout_s=_BACK_S, what="the machine to work")
        monitor(self.world, self.name, f"savevm {_SNAPSHOT}")
        wait_until(self.works, timeout_s=_BACK_S, what="the machine to work after the snapshot")

    def tidy(self) -> None:
        """Remove what `prepare` made."""
        self.restore()
        monitor(self.world, self.name, f"delvm {_SNAPSHOT}")
        self.world.remote(self.name, "rm", "--force", "--time", "0", KEPT)

    def restore(self) -> None:
        """Bring the machine into the state of the snapshot, without a boot, whatever state it is in."""
        self._remove_folders()
        has_monitor = listens(self.socket("qmp-tools.sock"))
        if has_monitor and self.works():
            return
        self.resume_processes()
        if self.state()[0] != "stopped" and not has_monitor:
            self.world.must("stop", self.name)
        if self.state()[0] == "stopped":
            self.start_from_snapshot()
        elif listener_pid(self.socket("control.sock")) is None:
            self._load()
            self.world.must("start", self.name)
            self._publish()
        else:
            self._load()
            self._publish()
        wait_until(self.works, timeout_s=_BACK_S, what="the machine to work again")

    def _remove_folders(self) -> None:
        """Remove folders that a trial which failed has left, since QEMU takes no snapshots with virtiofs devices."""
        if self.world.record(self.name)["config"]["folders"]:
            for folder in json.loads(self.world.must("mount", "ls", self.name, "--format", "json").stdout):
                self.world.must("mount", "rm", self.name, folder["target"])

    def start_from_snapshot(self, *program: str | Path) -> None:
        """Start the stopped machine, but continue from the snapshot instead of booting."""
        program = program or (machine_program(),)
        self.continue_unsupervised(*program)
        self.world.run(*program, "start", "--quiet", self.name)
        self._publish()

    def continue_unsupervised(self, *program: str | Path) -> None:
        """Continue the stopped machine from the snapshot, without a supervisor, as it would wait for a boot."""
        program = program or (machine_program(),)
        start = self.world.spawn(*program, "start", "--quiet", self.name)
        wait_until(lambda: listens(self.socket("qmp-tools.sock")), timeout_s=60, what="QEMU")
        wait_until(lambda: listens(self.socket("control.sock")), timeout_s=60, what="the supervisor")
        self.kill(self.supervisor)
        start.communicate(timeout=60)
        self._load()

    def _publish(self) -> None:
        """Have Podman ask for all ports of containers anew, since this QEMU may not have been asked for them."""
        wait_until(lambda: self.ask_podman("_ping") == "OK", timeout_s=_BACK_S, what="Podman")
        running = self.world.remote(self.name, "ps", "--format", "{{.Names}}").stdout.split()
        self.world.remote(self.name, "restart", "--time", "0", *running)

    def _load(self) -> None:
        monitor(self.world, self.name, f"loadvm {_SNAPSHOT}")
        monitor(self.world, self.name, "cont")

    def resume_processes(self) -> None:
        """Continue all processes of the machine that were stopped."""
        for pid in {*processes_of(self.world.runtime(self.name)), *processes_of(self.directory)}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    # Looking

    @property
    def directory(self) -> Path:
        return self.world.machines / self.name

    def socket(self, name: str) -> Path:
        return self.world.runtime(self.name) / name

    @property
    def supervisor(self) -> int:
        return supervisor_pid(self.world.runtime(self.name))

    @property
    def qemu(self) -> int:
        return qemu_pid(self.world.runtime(self.name))

    @property
    def master(self) -> int:
        pid = listener_pid(self.socket("ssh.ctl"))
        assert pid is not None
        return pid

    def state(self) -> tuple[str, str]:
        return self.world.state(self.name)

    def works(self, state: str = "running", reason: str = "") -> bool:
        """Whether the machine is in this state, and Podman and the published port answer."""
        shown, why = self.state()
        if shown != state or reason not in why or (why and not reason) or self.ask_podman("_ping") != "OK":
            return False
        with contextlib.suppress(OSError):
            return self._serves()
        return False

    def _serves(self) -> bool:
        places = (("127.0.0.1", self.port), ("::1", self.port6))
        addresses = (f"127.0.0.1:{self.port}", f"[::1]:{self.port6}")
        return all(reachable(*place) for place in places) and all(fetch(address) == "hello\n" for address in addresses)

    def ask_podman(self, path: str) -> str:
        """Return the answer of the guest's Podman to a GET request; nothing if it does not answer."""
        curl = ("curl", "--silent", "--fail", "--max-time", "20", "--unix-socket", str(self.socket("podman.sock")))
        return self.world.run(*curl, f"http://d/{path}", check=False).stdout

    def processes(self) -> dict[int, str]:
        """Return the command lines of the machine's processes on this host, by process id."""
        supervisor = listener_pid(self.socket("control.sock"))
        inherited = {child.pid: " ".join(child.cmdline()) for child in children(supervisor)} if supervisor else {}
        return inherited | processes_of(self.world.runtime(self.name)) | processes_of(self.directory)

    # What must not be lost

    def note(self) -> None:
        """Write a file in the guest, synchronously, and note what else no fault may lose."""
        self.token = os.urandom(8).hex()
        self.core(f"echo {self.token} >{KEPT_FILE} && sync {KEPT_FILE}")
        self._started = self._container_started()
        self._config = self.world.record(self.name)["config"]

    def losses(self, *, reboots: bool) -> list[str]:
        """Return what was lost since `note`."""
        lost = []
        if not self.has_file(self.name):
            lost.append("a file that the guest had synced")
        if not reboots and self._container_started() != self._started:
            lost.append("a running container")
        if self.world.record(self.name)["config"] != self._config:
            lost.append("the configuration")
        return lost

    def has_file(self, name: str) -> bool:
        """Whether the guest of `name` has the file that `note` wrote."""
        return self.world.machine("ssh", name, f"cat {KEPT_FILE}").stdout.strip() == self.token

    def _container_started(self) -> str:
        told = self.ask_podman(f"v1.40/containers/{KEPT}/json")
        return str(json.loads(told)["State"]["StartedAt"]) if told else ""

    # Acting

    @property
    def program(self) -> str:
        return machine_program()

    def core(self, script: str) -> str:
        """Run a script as the guest's user; returns its output."""
        return self.world.must("ssh", self.name, script).stdout

    def root(self, script: str) -> str:
        return self.world.must("ssh", "--username", "root", self.name, script).stdout

    def monitor(self, line: str) -> None:
        monitor(self.world, self.name, line)

    @staticmethod
    def kill(*pids: int) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def kill_all(self) -> None:
        """Kill all processes of the machine at once, the supervisor before it can react to the others' ends."""
        supervisor = listener_pid(self.socket("control.sock"))
        self.kill(*([supervisor] if supervisor else []), *self.processes())

    def watch(self, words: Sequence[str], *, timeout_s: float = BOOT_S, **environment: str) -> Watched:
        """Run `machine` and note when it says its first word. It is killed after `timeout_s`."""
        began = time.monotonic()
        process = self.world.spawn(machine_program(), *words, **environment)
        _await_output(process, timeout_s)
        silent_s = time.monotonic() - began
        try:
            out, err = process.communicate(timeout=max(1.0, began + timeout_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
        outcome = Outcome(status=process.returncode, stdout=out, stderr=err)
        return Watched(outcome=outcome, took_s=time.monotonic() - began, silent_s=silent_s)

    def publishes(self) -> bool:
        """Whether a port of a new container is published."""
        port = choose_port()
        self.world.remote(
            self.name, "run", "--detach", "--name", "new", "-p", f"127.0.0.1:{port}:80", "busybox", "sleep", "9"
        )
        published = reachable("127.0.0.1", port)
        self.world.remote(self.name, "rm", "--force", "--time", "0", "new")
        return published

    def ports(self) -> list[dict[str, str]]:
        listed: list[dict[str, str]] = json.loads(self.world.must("port", "ls", "--format", "json", self.name).stdout)
        return listed


def _await_output(process: subprocess.Popen[str], timeout_s: float) -> None:
    """Wait until a process prints something or ends, without taking anything from its pipes."""
    assert process.stdout is not None
    assert process.stderr is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        selector.register(process.stderr, selectors.EVENT_READ)
        selector.select(timeout_s)
