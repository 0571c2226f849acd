"""The machines of the guest tier, with methods that bring each into the state that a test needs.

Boots are slow, so tests share machines. A test only waits for a boot if its machine is not in the required state yet,
because the test runs alone or because another test has changed the machine.
"""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.free_ports import choose_port, choose_ports
from tests.support.guest_containers import run_containers, take_statuses
from tests.support.guest_network import SERVE
from tests.support.guests import BOOT_S
from tests.support.world import Outcome, World, machine_program, successful

SHARED = "shared"
# With it, the name of a systemd unit for the folder is longer than systemd permits.
SPACES = f"my folder, {'é' * 40}"

# The files for the `machine init` of box2, in one directory, by name.
_INIT_FILES = {
    "site.ign": json.dumps(
        {
            "ignition": {"version": "3.3.0"},
            "passwd": {"users": [{"name": "eve", "uid": 4242}, {"name": "core", "groups": ["adm"]}]},
            "storage": {
                # It is so already, but Ignition has to look, which our own image's quick first boot leaves to systemd.
                "filesystems": [{"device": "/dev/disk/by-label/root", "format": "ext4", "label": "root"}],
                "files": [{"path": "/etc/own", "contents": {"source": "data:,own"}, "mode": 0o600}],
            },
            "systemd": {
                "units": [
                    {
                        "name": "own.service",
                        "enabled": True,
                        "contents": "[Service]\nType=oneshot\nRemainAfterExit=yes\n"
                        "ExecStart=/bin/sh -c 'id -un eve >/run/own'\n"
                        "[Install]\nWantedBy=multi-user.target\n",
                    },
                    {
                        "name": "fails.service",
                        "enabled": True,
                        "contents": "[Unit]\nDescription=A unit that fails\nConditionFirstBoot=yes\n"
                        "[Service]\nType=oneshot\nExecStart=/bin/false\n[Install]\nWantedBy=multi-user.target\n",
                    },
                ]
            },
        }
    ),
    "root.sh": '#!/bin/bash\necho "$(id -un) $PWD $GREETING $ftp_proxy" >/etc/provisioned\n',
    "own.sh": 'echo "$(id -un) $PWD $GREETING $(podman info --format {{.Host.Security.Rootless}})" >provisioned\n',
    "fails.sh": "echo what is wrong >&2\nexit 3\n",
    "never.sh": "touch /etc/never\n",
    "box2.toml": (
        'name = "box2"\nimage = "boot2podman"\nrootful = true\ncpus = 1\nhostname = "own.example.org"\n'
        'timezone = "Asia/Tokyo"\nignition_path = "site.ign"\n'
        'provision = ["root.sh", "user:own.sh", "fails.sh", "never.sh"]\n'
        'env = {GREETING = "he said \\"100 %\\" $HOME"}\nlabel = {made = "by the tests"}\n'
    ),
}

# No test uses FTP, so its proxy can follow the host's without any effect.
FIRST_PROXY = {"ftp_proxy": "http://localhost:3128", "NO_PROXY": "a,b"}
SECOND_PROXY = {"ftp_proxy": "http://proxy.example:8080"}


def bring_up(world: World, name: str, **variables: str) -> None:
    """Start a machine, whatever its present state is."""
    state, _ = world.state(name)
    if state == "running":
        return
    if state != "stopped":
        world.must("stop", name)
    world.must("start", "--quiet", name, **variables)


@dataclass(frozen=True, kw_only=True)
class Web:
    """Host ports of the container `web`: on all addresses, on one IPv4 or IPv6 address, and the first of ten."""

    every: int
    one: int
    six: int
    low: int

    @property
    def addresses(self) -> list[str]:
        return [
            f"127.0.0.1:{self.every}", f"127.0.0.2:{self.every}", f"[::1]:{self.every}", f"127.0.0.1:{self.one}",
            f"[::1]:{self.six}", f"127.0.0.1:{self.low}",
        ]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Change:
    """The outcomes of changing `box` to `crate` and of starting it, and what was different in `box`."""

    changed: Outcome
    started: Outcome
    port: int
    """The SSH port that `box` had."""

    rootless: Mapping[str, str]
    """The status of each rootless container of `box` after the start."""

    rootful: Mapping[str, str]


@dataclass(kw_only=True)
class MainMachine:
    """The machine `box` of the user who runs the tests, made from a mirror's image; `crate` after it was changed."""

    world: World
    mirror: str
    busybox: Path
    change: Change | None = None
    web: Web | None = None
    _sleeper: bool = False
    _imported: bool = False

    def init_words(self) -> tuple[str, ...]:
        # Without folders, since a test saves a snapshot, which is impossible with virtiofs devices.
        size = ("--disk-size", "12", "--memory", "1536", "--cpus", "2")
        return ("init", *size, "--now", "--stream-base-url", self.mirror, "--volume", "", "box")

    def exists(self, name: str = "box") -> bool:
        return (self.world.machines / name).exists()

    def run(self) -> str:
        """Create, restore or start `box` as needed."""
        if self.exists("crate"):
            self._change_back()
        if not self.exists():
            self._forget()
            self.world.must(*self.init_words())
        bring_up(self.world, "box")
        return "box"

    def stop(self) -> str:
        """Create or stop `box` as needed."""
        if not self.exists():
            self.run()
        if self.world.state("box")[0] != "stopped":
            self.world.must("stop", "box")
        return "box"

    def import_busybox(self) -> None:
        self.run()
        if not self._imported:
            self.world.remote("box", "import", "--quiet", str(self.busybox), "busybox")
            self._imported = True

    def run_sleeper(self) -> None:
        """Run the container `sleeper` in `box`."""
        self.import_busybox()
        if not self._sleeper:
            self.world.remote("box", "run", "--detach", "--name", "sleeper", "busybox", "sleep", "100000")
            self._sleeper = True
        elif "sleeper" not in self.world.remote("box", "ps", "--format", "{{.Names}}").stdout.split():
            self.world.remote("box", "start", "sleeper")

    def publish_web(self) -> Web:
        """Run the container `web` in `box`, published by all forms of `-p` that machines support."""
        self.import_busybox()
        if self.web is None:
            web = Web(every=choose_port(), one=choose_port(), six=choose_port(), low=choose_ports(10))
            self.world.remote(
                "box", "run", "--detach", "--name", "web", "--restart", "always",
                "-p", f"{web.every}:80", "-p", f"127.0.0.1:{web.one}:80", "-p", f"[::1]:{web.six}:80",
                "-p", f"127.0.0.1:{web.low}-{web.low + 9}:80-89",
                "busybox", "sh", "-c", SERVE,
            )  # fmt: skip
            self.web = web
        elif "web" not in self.world.remote("box", "ps", "--format", "{{.Names}}").stdout.split():
            self.world.remote("box", "start", "web")
        return self.web

    def unpublish_web(self) -> None:
        self.world.remote("box", "rm", "--force", "--time", "1", "web")
        self.web = None

    def forward_socket(self) -> Path:
        """Add a user's forward from a socket of the host to the guest's Podman; returns the socket."""
        self.run()
        path, guest = self.world.root / "guest.sock", "/run/podman/podman.sock"
        if str(path) not in self.world.must("port", "ls", "--format", "json", "box").stdout:
            self.world.must("port", "add", "box", f"{path}:{guest}")
        return path

    def run_changed(self) -> Change:
        """Run `crate`, which is `box` with another name, size and Podman; its SSH port was in use at its start."""
        if self.change is None or not self.exists("crate"):
            if not self._sleeper:
                self.run_sleeper()
            self.change = self._change()
        bring_up(self.world, "crate")
        return self.change

    def stop_changed(self) -> str:
        """Create or stop `crate` as needed."""
        if self.change is None or not self.exists("crate"):
            self.run_changed()
        if self.world.state("crate")[0] != "stopped":
            self.world.must("stop", "crate")
        return "crate"

    def _change(self) -> Change:
        self.run()
        run_containers(self.world, "box")
        name = self.stop()
        port = self.world.inspect(name)["SSHConfig"]["Port"]
        changed = self.world.must("set", "--disk-size", "16", "--cpus", "1", "--rootful", name)
        self.world.must("rename", name, "crate")
        with occupied(port):
            started = self.world.must("start", "crate")
        rootless, rootful = take_statuses(self.world, "crate")
        return Change(changed=changed, started=started, port=port, rootless=rootless, rootful=rootful)

    def _change_back(self) -> None:
        if self.world.state("crate")[0] != "stopped":
            self.world.must("stop", "crate")
        self.world.must("rename", "crate", "box")
        self.world.must("set", "--rootful=false", "--cpus", "2", "box")
        self.change = None

    def _forget(self) -> None:
        self.web, self.change, self._sleeper, self._imported = None, None, False, False


@dataclass(kw_only=True)
class SecondMachine:
    """The machine `box2`, of an ordinary user if possible, which was created with all optional settings."""

    world: World
    stderr: str = ""
    """The stderr of `machine init --now`."""

    _started_with: Mapping[str, str] = field(default_factory=dict)
    _port_driver: str = ""

    def init_words(self) -> tuple[str, ...]:
        for name, text in _INIT_FILES.items():
            (self.world.root / name).write_text(text)
        return ("init", "--disk-size", "12", "--memory", "1536", "--now", "-f", "box2.toml")

    def record_first_start(self, stderr: str) -> None:
        self.stderr, self._started_with = stderr, FIRST_PROXY

    def run(self, variables: Mapping[str, str] | None = None) -> str:
        """Run `box2`, started with these variables on the host if they are given."""
        runs = self.world.state("box2")[0] == "running"
        required = self._started_with if variables is None else variables
        if runs and required != self._started_with:
            self.restart(required)
        elif not runs:
            bring_up(self.world, "box2", **required)
            self._started_with = required
        return "box2"

    def restart(self, variables: Mapping[str, str]) -> None:
        self.world.must("restart", "--quiet", "box2", **variables)
        self._started_with = variables

    def stop(self) -> str:
        if self.world.state("box2")[0] != "stopped":
            self.world.must("stop", "box2")
        return "box2"

    @contextmanager
    def reconfiguring(self) -> Iterator[None]:
        """Start `box2` with other variables and the other port driver during the block; waits for it afterwards."""
        if self.is_reconfigured():
            yield
            return
        self.stop()
        self.world.must("config", "set", "port_driver", "ssh")
        start = self.world.spawn(machine_program(), "start", "--quiet", "box2", **SECOND_PROXY)
        yield
        out, err = start.communicate(timeout=BOOT_S)
        successful(Outcome(status=start.returncode, stdout=out, stderr=err), "start", "box2")
        self._started_with, self._port_driver = SECOND_PROXY, "ssh"

    def is_reconfigured(self) -> bool:
        return (self._started_with, self._port_driver) == (SECOND_PROXY, "ssh") and (
            self.world.state("box2")[0] == "running"
        )

    def run_reconfigured(self) -> str:
        with self.reconfiguring():
            return "box2"


@dataclass(kw_only=True)
class SharedMachine:
    """The machine `shared`, created with three folders of the host, one of which has its sockets; one can be added."""

    world: World
    folders: Path

    def __post_init__(self) -> None:
        for name in (SPACES, "ro", "live"):
            (self.folders / name).mkdir(parents=True)
            (self.folders / name / "hosts").write_text(f"{name}\n")

    def init(self) -> str:
        """Create `shared`, replacing an existing one."""
        if (self.world.machines / SHARED).exists():
            self.world.must("rm", "--force", SHARED)
        sockets = self.world.runtime(SHARED).parent
        sockets.mkdir(mode=0o700, exist_ok=True)
        volumes = [
            "--volume", f"{self.folders}/{SPACES}:/mnt/{SPACES}",
            "--volume", f"{self.folders}/ro:/mnt/ro:ro",
            "--volume", str(sockets),
        ]  # fmt: skip
        size = ("--disk-size", "12", "--memory", "1024", "--cpus", "2", "--mount-inotify")
        self.world.must("init", "--image", "boot2podman", *size, *volumes, SHARED)
        return SHARED

    def run(self) -> str:
        """Run `shared`, whatever folders it has."""
        if not (self.world.machines / SHARED).exists():
            self.init()
        bring_up(self.world, SHARED)
        return SHARED

    def run_with_folders(self) -> Path:
        """Run `shared` with the folders that it was created with; returns the parent of the others on the host."""
        self.run()
        if not {f"/mnt/{SPACES}", "/mnt/ro"} <= set(self.mounts()):
            self.init()
            self.run()
        return self.folders

    def run_with_live_folder(self) -> Path:
        """Run `shared` with all its folders, one of which is added while the machine is running."""
        self.run_with_folders()
        if "/mnt/live" not in self.mounts():
            self.world.must("mount", "add", SHARED, f"{self.folders}/live:/mnt/live")
        return self.folders

    def mounts(self) -> dict[str, tuple[str, str]]:
        """Return the driver and the problem of each folder, by its target."""
        listed = json.loads(self.world.must("mount", "ls", SHARED, "--format", "json").stdout)
        return {entry["target"]: (entry["driver"], entry["problem"]) for entry in listed}


def first_boots(main: MainMachine, second: SecondMachine) -> None:
    """Create and start both machines in parallel."""
    boots = [
        (main.world, main.world.spawn(machine_program(), *main.init_words())),
        (second.world, second.world.spawn(machine_program(), *second.init_words(), **FIRST_PROXY)),
    ]
    ends = [process.communicate(timeout=2 * BOOT_S) for _, process in boots]
    for (owner, process), (out, err) in zip(boots, ends, strict=True):
        if process.returncode != 0:
            pytest.fail(f"{owner}: {out}\n{err}")
    second.record_first_start(ends[1][1])


@contextmanager
def occupied(port: int) -> Iterator[None]:
    """Listen on a port during the block."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of the last boot may linger
        holder.bind(("127.0.0.1", port))
        holder.listen()
        yield


def copy_into_world(archive: Path, world: World) -> Path:
    """Copy a file to a directory that the world's user may enter."""
    copy = world.root / archive.name
    shutil.copy(archive, copy)
    return copy
