"""Real tools in a world of the test's own: the installed `machine`, QEMU, OpenSSH, Podman's client, an HTTP server."""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import json
import lzma
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from machine.guestimage.publish import PUBLIC_KEY, sign
from tests.conftest import machine_program, world_environment
from tests.support.http_server import ImageServer, serving
from tests.support.warm import WarmProgram

COMMAND_S = 60
TOOLS = ("qemu-system-x86_64", "qemu-img", "ssh", "ssh-keygen", "gpgv")


@dataclass(frozen=True, kw_only=True)
class Images:
    """Small disk images with the same content in several packings, and the hashes that metadata tells.

    `signature` is the packed one's, and `key` the public key to it.
    """

    qcow2: Path
    raw: Path
    xz: Path
    gz: Path
    signature: bytes
    key: bytes

    @property
    def hashes(self) -> dict[str, str]:
        return {"sha256": sha256(self.xz), "uncompressed_sha256": sha256(self.qcow2)}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    """Four images of one disk: 64 MiB with an MBR signature and two megabytes that do not compress."""
    directory = tmp_path_factory.mktemp("images")
    raw = directory / "disk.raw"
    with raw.open("wb") as stream:
        stream.write(bytes(510) + b"\x55\xaa")
        for number in range(65536):
            stream.write(hashlib.sha256(number.to_bytes(4, "big")).digest())
        stream.truncate(64 * 1024**2)
    qcow2 = directory / "disk.qcow2"
    qemu_img("convert", "-f", "raw", "-O", "qcow2", raw, qcow2)
    (directory / "disk.qcow2.xz").write_bytes(lzma.compress(qcow2.read_bytes(), preset=0))
    (directory / "disk.raw.gz").write_bytes(gzip.compress(raw.read_bytes(), compresslevel=1))
    keys = directory / "keys"
    sign([directory / "disk.qcow2.xz"], keys)
    return Images(
        qcow2=qcow2,
        raw=raw,
        xz=directory / "disk.qcow2.xz",
        gz=directory / "disk.raw.gz",
        signature=(directory / "disk.qcow2.xz.sig").read_bytes(),
        key=(keys / PUBLIC_KEY).read_bytes(),
    )


def qemu_img(*words: str | Path) -> str:
    return subprocess.run(["qemu-img", *words], check=True, capture_output=True, text=True).stdout


@dataclass(frozen=True, kw_only=True)
class Outcome:
    status: int
    stdout: str
    stderr: str


class OneWorkerForTheWheel(LoadScopeScheduling):
    """It takes long to build."""

    def _split_scope(self, nodeid: str) -> str:
        return "wheel" if "/test_wheel.py::" in nodeid else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneWorkerForTheWheel:
    return OneWorkerForTheWheel(config, log)


@functools.cache
def warm_program() -> WarmProgram:
    return WarmProgram(machine_program())


@pytest.fixture(scope="session", autouse=True)
def warm_program_ends() -> Iterator[None]:
    yield
    if warm_program.cache_info().currsize:
        warm_program().close()


@dataclass(kw_only=True)
class World:
    """One user's directories, and the programs on that user's PATH."""

    root: Path
    bin: Path
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if key in ("LANG", "TERM")}
        return {**kept, **world_environment(self.root), "PATH": str(self.bin), **self.extra}

    @contextlib.contextmanager
    def popen(self, *words: str | Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
        """`machine` with these words, in a process group of its own; a test that fails does not wait for it."""
        with subprocess.Popen(
            # Whoever started the tests in the background has made their children deaf to ^C.
            ["/usr/bin/env", "--default-signal=INT", machine_program(), *(os.fspath(word) for word in words)],
            env={**self.environment, **environment},
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        ) as process:
            try:
                yield process
            except BaseException:
                process.kill()
                raise

    def machine(self, *words: str | Path, **environment: str) -> Outcome:
        """Run `machine` to its end; `popen` is for tests of the process that it is."""
        status, stdout, stderr = warm_program().run(
            [os.fspath(word) for word in words], {**self.environment, **environment}, self.root, timeout_s=COMMAND_S
        )
        return Outcome(status=status, stdout=stdout, stderr=stderr)

    def init(self, name: str, image: str | Path, *words: str) -> Outcome:
        """`machine init` that has to succeed."""
        outcome = self.machine("init", "--image", image, *words, name)
        assert outcome.status == 0, outcome.stderr
        return outcome

    def podman(self, *words: str) -> str:
        """What the old podman client says in this world."""
        done = subprocess.run(
            ["podman", *words], env={**self.environment, "PATH": os.environ["PATH"]}, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        return done.stdout

    def without(self, *tools: str) -> None:
        """Take these programs off the user's PATH."""
        for tool in tools:
            (self.bin / tool).unlink()

    def inspect(self, name: str) -> dict[str, Any]:
        document: list[dict[str, Any]] = json.loads(self.machine("inspect", name).stdout)
        return document[0]

    @property
    def home(self) -> Path:
        return self.root / "m"

    @property
    def machines(self) -> Path:
        return self.home / "data" / "machines"

    @property
    def cache(self) -> Path:
        return self.home / "cache" / "images"

    def trust(self, key: bytes) -> None:
        """Put a key into the user's own directory of keys."""
        keys = self.home / "data" / "keys"
        keys.mkdir(parents=True, exist_ok=True)
        (keys / "test.gpg").write_bytes(key)

    @property
    def connections(self) -> dict[str, Any]:
        path = self.root / "podman-connections.json"
        document: dict[str, Any] = json.loads(path.read_bytes())["Connection"] if path.exists() else {}
        return document

    def files(self) -> dict[str, bytes]:
        """Every file that has a content: empty lock files do not count."""
        found = {path for path in self.root.rglob("*") if path.is_file() and not path.is_symlink()}
        return {str(path.relative_to(self.root)): content for path in found if (content := path.read_bytes())}


def make_world(root: Path) -> World:
    """A world with the tools that `machine` needs, and no podman."""
    root.mkdir(parents=True)
    binaries = root.with_name("bin")
    binaries.mkdir()
    world = World(root=root, bin=binaries)
    world_environment(root)  # makes the files that are there before any command
    for tool in TOOLS:
        link_tool(world, tool)
    return world


def link_tool(world: World, tool: str) -> None:
    found = shutil.which(tool)
    assert found is not None, f"{tool} is needed by these tests"
    (world.bin / tool).symlink_to(found)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "w")


@pytest.fixture
def podman_world(world: World) -> World:
    """One with an old podman on PATH, which keeps its connections in containers.conf."""
    link_tool(world, "podman")
    return world


@pytest.fixture
def server() -> Iterator[ImageServer]:
    with serving() as images:
        yield images
