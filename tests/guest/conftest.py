"""One guest image, built once and cached outside the checkout.

Every boot here is a real one, and under TCG a slow one. The tests run in the order in which they stand, module by
module, and hand the machines on to each other. The first five chapters have two: `box` belongs to the user who runs the
tests, `box2` to an ordinary one where that is possible. The other chapters make machines of their own.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from machine.guestimage.publish import PUBLIC_KEY
from machine.sockets import listener_pid
from tests.support.world import machine_program, world_environment

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "boot2podman-tests"
ORDINARY_USER = "boot2podman-test"
COMMAND_S = 900
BOOT_S = 900

# Holds what the machines of a world write; a test fills it.
_DISK = "4G"


# Building the image and booting under TCG, all in the setup of the first test.
GUEST_TEST_S = 3600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(GUEST_TEST_S))


@dataclass(frozen=True, kw_only=True)
class World:
    """One user's directories and how to run programs as that user."""

    root: Path
    uid: int

    @property
    def machines(self) -> Path:
        return self.root / "m" / "data" / "machines"

    @property
    def environment(self) -> dict[str, str]:
        # LC_ALL and the like would only change texts.
        inherited = {key: value for key, value in os.environ.items() if key in ("PATH", "TERM", "LANG")}
        return {**inherited, **world_environment(self.root)}

    def popen(
        self, argv: Sequence[str], environment: Mapping[str, str] | None = None, **settings: Any
    ) -> subprocess.Popen[str]:
        identity: dict[str, Any] = {} if self.uid == os.getuid() else {
            "user": self.uid, "group": self.uid, "extra_groups": [],
        }  # fmt: skip
        return subprocess.Popen(
            argv,
            env={**self.environment, **(environment or {})},
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **identity,
            **settings,
        )

    def run(
        self, *argv: str, check: bool = True, timeout_s: float = COMMAND_S, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a program as this user; with `check`, anything but exit status 0 fails the test with its output."""
        with self.popen(argv, environment) as process:
            try:
                out, err = process.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        if check and process.returncode != 0:
            pytest.fail(f"{argv} ended with {process.returncode}\nstdout: {out}\nstderr: {err}")
        return subprocess.CompletedProcess(argv, process.returncode, out, err)

    def machine(
        self, *words: str, check: bool = True, timeout_s: float = COMMAND_S
    ) -> subprocess.CompletedProcess[str]:
        return self.run(machine_program(), *words, check=check, timeout_s=timeout_s)

    def state(self, name: str) -> tuple[str, str]:
        """State and reason, as `machine ls` tells them."""
        listed = json.loads(self.machine("ls", "--format", "json").stdout)
        return next((entry["State"], entry["Reason"]) for entry in listed if entry["Name"] == name)

    def inspect(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.machine("inspect", name).stdout)[0]
        return found

    def podman(self, connection: str, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """The host's podman, as a remote client."""
        return self.run("podman", "--remote", "--connection", connection, *words, check=check)


def wait_until(condition: Callable[[], bool], *, timeout_s: float, what: str) -> float:
    """Seconds until it held."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > timeout_s:
            pytest.fail(f"waited {timeout_s:.0f} s in vain for {what}")
        time.sleep(0.5)
    return time.monotonic() - began


def processes_of(directory: Path) -> dict[int, str]:
    """Command lines, by pid, of the processes that name something below `directory`, the tests' own left out."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(directory) in command:
            found[int(entry.parent.name)] = command
    return found


def supervisor_pid(world: World, name: str) -> int:
    """By the kernel's word: who listens on the control socket."""
    pid = listener_pid(world.root / "m" / "run" / name / "control.sock")
    assert pid is not None
    return pid


def qemu_pid(world: World, name: str) -> int:
    pid = listener_pid(world.root / "m" / "run" / name / "qmp-tools.sock")
    assert pid is not None
    return pid


@pytest.fixture(scope="session")
def streams() -> Path:
    """The local stream with the guest image; `machine image build` knows by the recipe's hash whether it is current."""
    environment = {**os.environ, "MACHINE_HOME": str(CACHE)}
    subprocess.run([machine_program(), "image", "build"], env=environment, check=True, timeout=2400)
    published = CACHE / "data" / "streams"
    # The same stream under a name of Fedora's, for whoever asks a mirror for it.
    shutil.copyfile(published / "boot2podman.json", published / "stable.json")
    return published


@pytest.fixture(scope="session")
def mirror(streams: Path) -> Iterator[str]:
    """The base URL of a server that has the guest image as Fedora's servers have theirs."""
    with served(streams) as url:
        yield url


@contextlib.contextmanager
def served(directory: Path) -> Iterator[str]:
    """The URL of a server that has a directory's files."""
    handler = functools.partial(QuietHandler, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None: ...


@pytest.fixture(scope="session")
def busybox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return busybox_archive(Path("/bin/busybox"), tmp_path_factory.mktemp("busybox"))


def busybox_archive(program: Path, root: Path) -> Path:
    """The tar of a container image, made on the spot."""
    (root / "bin").mkdir()
    shutil.copy2(program, root / "bin" / "busybox")
    for applet in ("sh", "echo", "sleep", "uname", "httpd", "cat", "chroot", "mkdir", "wget"):
        (root / "bin" / applet).symlink_to("busybox")
    archive = root.parent / f"{root.name}.tar"
    subprocess.run(["tar", "-C", str(root), "-cf", str(archive), "."], check=True)
    archive.chmod(0o644)
    return archive


@pytest.fixture(scope="session")
def clients() -> Callable[[str], list[str]]:
    """Command lines of Debian 13's clients, unpacked once beside their own libraries, by their paths below /usr."""
    root = CACHE / "clients-trixie"
    if not root.exists():
        unpacked = Path(tempfile.mkdtemp(prefix=".new-", dir=CACHE)) / "root"
        packages = "--include=podman-remote,docker-cli,docker-compose"
        command = ["mmdebstrap", "--quiet", "--variant=extract", packages, "trixie", str(unpacked)]
        subprocess.run(command, check=True, timeout=600)
        unpacked.rename(root)
        unpacked.parent.rmdir()
    libraries = root / "usr" / "lib" / "x86_64-linux-gnu"
    loader = [str(libraries / "ld-linux-x86-64.so.2"), "--library-path", str(libraries)]
    return lambda program: [*loader, str(root / "usr" / program)]


def make_world(streams: Path, uid: int) -> World:
    """A user's world, with the local stream and its key in it."""
    root = Path(tempfile.mkdtemp(prefix="b2p-", dir="/tmp"))
    (root / "m" / "data").mkdir(parents=True)
    (root / "home").mkdir()
    if uid == os.getuid():
        (root / "m" / "data" / "streams").symlink_to(streams)
    else:  # who may not go where the tests' cache is
        shutil.copytree(streams, root / "m" / "data" / "streams")
    (root / "m" / "data" / "keys").mkdir()
    shutil.copyfile(streams / PUBLIC_KEY, root / "m" / "data" / "keys" / PUBLIC_KEY)
    world = World(root=root, uid=uid)
    assert world.environment
    if uid != os.getuid():
        for directory, _, files in os.walk(root):
            for name in (".", *files):
                os.chown(Path(directory) / name, uid, uid, follow_symlinks=False)
    return world


@pytest.fixture(scope="session")
def world(streams: Path) -> Iterator[World]:
    made = make_world(streams, os.getuid())
    with _own_disk(made.machines):
        yield made
        take_down(made)
    shutil.rmtree(made.root, ignore_errors=True)


@contextlib.contextmanager
def _own_disk(directory: Path) -> Iterator[None]:
    """Where the tests may, the machines have a disk of their own, which can be filled."""
    directory.mkdir()
    if os.getuid() != 0:
        yield
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK},mode=0700", "machines", directory], check=True)
    yield
    subprocess.run(["umount", "--lazy", directory], check=True)


@pytest.fixture(scope="session")
def ordinary_world(streams: Path) -> Iterator[World]:
    """A world of an ordinary user's, where the tests run as root and that user can reach what they need."""
    with _ordinary_user() as uid:
        made = make_world(streams, uid)
        yield made
        take_down(made)


@contextlib.contextmanager
def _ordinary_user() -> Iterator[int]:
    """A user who exists as long as that: ssh serves nobody whom it cannot look up."""
    if os.getuid() != 0:
        yield os.getuid()
        return
    if ORDINARY_USER not in {user.pw_name for user in pwd.getpwall()}:  # as a run that was cut short leaves it
        subprocess.run(["useradd", "--no-create-home", "--user-group", ORDINARY_USER], check=True)
    try:
        uid = pwd.getpwnam(ORDINARY_USER).pw_uid
        command = [sys.executable, "-c", "import machine.cli.main"]
        reaches = subprocess.run(command, user=uid, group=uid, extra_groups=[], check=False, cwd="/").returncode == 0
        yield uid if reaches else os.getuid()
    finally:
        subprocess.run(["userdel", ORDINARY_USER], check=True)


def take_down(world: World) -> None:
    """Remove every machine, then prove that nothing is left of them."""
    try:
        for name in world.machine("ls", "-n", "-q").stdout.split():
            world.machine("rm", "--force", name.rstrip("*"))
    finally:
        left = processes_of(world.root)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(world.root, ignore_errors=True)
    assert not left, f"processes that outlived their machines: {left}"


# What an ordinary user gives box2: files beside each other, by their names.
GIVEN = {
    "site.ign": json.dumps(
        {
            "ignition": {"version": "3.3.0"},
            "passwd": {"users": [{"name": "eve", "uid": 4242}, {"name": "core", "groups": ["adm"]}]},
            "storage": {"files": [{"path": "/etc/own", "contents": {"source": "data:,own"}, "mode": 0o600}]},
            "systemd": {
                "units": [
                    {
                        "name": "own.service",
                        "enabled": True,
                        "contents": "[Service]\nType=oneshot\nRemainAfterExit=yes\n"
                        "ExecStart=/bin/sh -c 'id -un eve >/run/own'\n"
                        "[Install]\nWantedBy=multi-user.target\n",
                    }
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

# Nobody in the tests speaks FTP: what follows the host is in nobody's way.
FIRST_PROXY = {"ftp_proxy": "http://localhost:3128", "NO_PROXY": "a,b"}
SECOND_PROXY = {"ftp_proxy": "http://proxy.example:8080"}


@pytest.fixture(scope="session")
def two_machines(world: World, ordinary_world: World, mirror: str) -> list[str]:
    """Two first boots at once: of an image from a mirror of Fedora's, and of an ordinary user's local one, to which is
    given all that can be. What each has said on stderr.
    """
    for name, text in GIVEN.items():
        (ordinary_world.root / name).write_text(text)
    init = (machine_program(), "init", "--disk-size", "12", "--memory", "1536", "--now")
    # No folder: what a device of the guest carries cannot be saved with it, and a test does that.
    fetched = ("--stream-base-url", mirror, "--volume", "", "--cpus", "2", "box")
    local = ("-f", "box2.toml")
    boots = [
        (world, world.popen([*init, *fetched])),
        (ordinary_world, ordinary_world.popen([*init, *local], FIRST_PROXY)),
    ]
    said = []
    for owner, process in boots:
        out, err = process.communicate(timeout=2 * BOOT_S)
        assert process.returncode == 0, f"{owner}: {out}\n{err}"
        said.append(err)
    return said


SHARED = "shared"
SPACES = "my folder, é"


@pytest.fixture(scope="session")
def folders(world: World) -> Path:
    """Where three folders of the host's are."""
    base = world.root / "src"
    for name in (SPACES, "ro", "live"):
        (base / name).mkdir(parents=True)
        (base / name / "hosts").write_text(f"{name}\n")
    return base


def init_shared(world: World, folders: Path) -> None:
    """The machine that has two of them."""
    volumes = ("--volume", f"{folders}/{SPACES}:/mnt/{SPACES}", "--volume", f"{folders}/ro:/mnt/ro:ro")
    size = ("--disk-size", "12", "--memory", "1024", "--cpus", "2", "--mount-inotify")
    world.machine("init", "--image", "boot2podman", *size, *volumes, SHARED)
