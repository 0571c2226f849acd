"""A simulated user's world: directories apart from the real user's, and programs that run in them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.imitated_mac import IMITATED, SITE, imitate_programs
from tests.support.real_runs import RealRuns
from tests.support.warm import warm_program

COMMAND_S = 120
TOOLS = ("qemu-system-x86_64", "qemu-img", "ssh", "gpgv")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The exit status and output of a command line."""

    status: int
    stdout: str
    stderr: str


@dataclass(kw_only=True)
class World:
    """One user's directories, and methods that run programs as that user."""

    root: Path
    path: str = field(default_factory=lambda: os.environ["PATH"])
    uid: int = field(default_factory=os.getuid)
    extra: dict[str, str] = field(default_factory=dict)
    warm: bool = False
    """Whether `machine` runs in the warm program, which is quicker, but cannot run as another user."""

    timeout_s: float = COMMAND_S
    real_runs: RealRuns | None = None
    """Where the command lines of `machine` are noted, in a world with real guests."""

    @property
    def environment(self) -> dict[str, str]:
        # Others, such as LC_ALL, would change messages.
        kept = {key: value for key, value in os.environ.items() if key in ("LANG", "TERM")}
        return {**kept, **world_environment(self.root), "PATH": self.path, **self.extra}

    # Running programs

    def spawn(self, *argv: str | Path, stdin: str = "", **environment: str) -> subprocess.Popen[str]:
        """Start any program as this user, in its own process group, with a pipe if it will be sent `stdin`."""
        identity: dict[str, Any] = {} if self.uid == os.getuid() else {
            "user": self.uid, "group": self.uid, "extra_groups": [],
        }  # fmt: skip
        process = subprocess.Popen(
            # A shell makes background jobs, and so their children, ignore SIGINT.
            ["/usr/bin/env", "--default-signal=INT", *(os.fspath(word) for word in argv)],
            env={**self.environment, **environment},
            cwd=self.root,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="surrogateescape",
            process_group=0,
            **identity,
        )
        if self.real_runs and os.fspath(argv[0]) == machine_program():
            self.real_runs.add([os.fspath(word) for word in argv[1:]], process, self.root)
        return process

    @contextlib.contextmanager
    def popen(self, *words: str | Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
        """Run `machine` as a process during the block; it is killed if the test fails."""
        with self.spawn(machine_program(), *words, **environment) as process:
            try:
                yield process
            except BaseException:
                process.kill()
                raise

    def run(self, *argv: str | Path, check: bool = True, stdin: str = "", **environment: str) -> Outcome:
        """Run any program to its end; with `check`, an exit status other than 0 fails the test."""
        with self.spawn(*argv, stdin=stdin, **environment) as process:
            try:
                stdout, stderr = process.communicate(stdin or None, timeout=self.timeout_s)
            except BaseException:
                process.kill()
                raise
        outcome = Outcome(status=process.returncode, stdout=stdout, stderr=stderr)
        return successful(outcome, *argv) if check else outcome

    def machine(self, *words: str | Path, stdin: str = "", **environment: str) -> Outcome:
        """Run `machine` to its end; for tests of process behaviour, use `popen`."""
        if not self.warm:
            return self.run(machine_program(), *words, check=False, stdin=stdin, **environment)
        status, stdout, stderr = warm_program(machine_program()).run(
            [os.fspath(word) for word in words],
            {**self.environment, **environment},
            self.root,
            timeout_s=self.timeout_s,
            stdin=stdin,
        )
        return Outcome(status=status, stdout=stdout, stderr=stderr)

    def must(self, *words: str | Path, **environment: str) -> Outcome:
        """Run a `machine` command that must succeed."""
        return successful(self.machine(*words, **environment), "machine", *words)

    def init(self, name: str, image: str | Path, *words: str) -> Outcome:
        return self.must("init", "--image", image, *words, name)

    def podman(self, *words: str) -> str:
        """Run the host's podman in this world; returns its output."""
        return self.run("podman", *words, PATH=os.environ["PATH"]).stdout

    def remote(self, connection: str, *words: str, check: bool = True) -> Outcome:
        """Run the host's podman as a remote client of a machine."""
        return self.run("podman", "--remote", "--connection", connection, *words, check=check)

    # Reading

    @property
    def home(self) -> Path:
        return self.root / "m"

    @property
    def machines(self) -> Path:
        return self.home / "data" / "machines"

    @property
    def cache(self) -> Path:
        return self.home / "cache" / "images"

    @property
    def bin(self) -> Path:
        """The only directory on PATH, in a world that has its own."""
        return Path(self.path)

    def runtime(self, name: str) -> Path:
        """Return the directory of a machine's sockets, if the world's path is short."""
        return self.home / "run" / name

    def files(self) -> dict[str, bytes]:
        """Read all files that are not empty, as lock files are."""
        found = {path for path in self.root.rglob("*") if path.is_file() and not path.is_symlink()}
        return {str(path.relative_to(self.root)): content for path in found if (content := path.read_bytes())}

    @property
    def connections(self) -> dict[str, Any]:
        path = self.root / "podman-connections.json"
        document: dict[str, Any] = json.loads(path.read_bytes())["Connection"] if path.exists() else {}
        return document

    def inspect(self, name: str) -> dict[str, Any]:
        document: list[dict[str, Any]] = json.loads(self.must("inspect", name).stdout)
        return document[0]

    def record(self, name: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.machines / name / "record.json").read_bytes())
        return document

    def state(self, name: str) -> tuple[str, str]:
        """Return a machine's state and reason from `machine ls`."""
        listed = json.loads(self.must("ls", "--format", "json").stdout)
        return next((entry["State"], entry["Reason"]) for entry in listed if entry["Name"] == name)

    # Changing

    def trust(self, key: bytes) -> None:
        """Add a key to the user's signing keys."""
        keys = self.home / "data" / "keys"
        keys.mkdir(parents=True, exist_ok=True)
        (keys / "test.gpg").write_bytes(key)

    def edit_record(self, name: str, **parts: dict[str, object]) -> None:
        """Change fields of the record's `config`, `pending` or `guest`."""
        document = self.record(name)
        for part, fields in parts.items():
            document[part] |= fields
        (self.machines / name / "record.json").write_text(json.dumps(document))

    def link_tool(self, *tools: str) -> None:
        """Add programs of the host to the user's PATH."""
        for tool in tools:
            found = shutil.which(tool)
            assert found is not None, f"{tool} is needed by these tests"
            (self.bin / tool).symlink_to(found)
        if IMITATED in os.environ:
            imitate_programs(self.bin)

    def without(self, *tools: str) -> None:
        """Remove programs from the user's PATH."""
        for tool in tools:
            (self.bin / tool).unlink()


def successful(outcome: Outcome, *argv: str | Path) -> Outcome:
    """Return the outcome; fails the test unless its status is 0."""
    if outcome.status != 0:
        words = " ".join(map(str, argv))
        pytest.fail(f"{words} ended with {outcome.status}\nstdout: {outcome.stdout}\nstderr: {outcome.stderr}")
    return outcome


def make_world(root: Path) -> World:
    """Create a world with the tools that `machine` needs on its PATH, without podman."""
    root.mkdir(parents=True)
    binaries = root.with_name("bin")
    binaries.mkdir()
    world = World(root=root, path=str(binaries), warm=True)
    world_environment(root)  # creates the initial files
    world.link_tool(*TOOLS)
    return world


def world_environment(root: Path) -> dict[str, str]:
    """Return the variables that make all programs use `root`, and create the files that they need."""
    (root / "containers.conf").touch()
    docker = root / "docker"
    docker.mkdir(exist_ok=True)
    (docker / "config.json").write_text("{}")  # podman 4.3 fails without it
    return {
        "HOME": str(root / "home"),
        "MACHINE_HOME": str(root / "m"),
        "XDG_CONFIG_HOME": str(root / "home" / ".config"),
        "CONTAINERS_CONF": str(root / "containers.conf"),
        "PODMAN_CONNECTIONS_CONF": str(root / "podman-connections.json"),
        "DOCKER_CONFIG": str(docker),
        "COLUMNS": "80",
        "NO_COLOR": "1",
        **({"PYTHONPATH": str(SITE)} if IMITATED in os.environ else {}),
    }


def machine_program() -> str:
    """Return the installed command, beside the interpreter that runs the tests."""
    return os.fspath(Path(sys.executable).with_name("machine"))
