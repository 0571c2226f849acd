"""Fixtures with real tools in each test's own world: the installed `machine`, QEMU, OpenSSH, podman, an HTTP server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from machine.ssh.sftp import GuestFiles, guest_files
from tests.support.copying import Guest, running_guest
from tests.support.darwin import REAL_PATH
from tests.support.disk_images import Images, make_images
from tests.support.http_server import ImageServer, serving
from tests.support.processes import machine_processes
from tests.support.remote_host import RemoteHost, remote_host
from tests.support.sshd import Sshd, serving_sshd
from tests.support.start import put_to_sleep
from tests.support.warm import warm_program
from tests.support.world import World, machine_program, make_world


class OneWorkerForTheWheel(LoadScopeScheduling):
    """A scheduler that gives all tests of the wheel to one worker, since the wheel takes long to build."""

    def _split_scope(self, nodeid: str) -> str:
        return "wheel" if "/test_wheel.py::" in nodeid else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneWorkerForTheWheel:
    return OneWorkerForTheWheel(config, log)


@pytest.fixture(scope="session", autouse=True)
def warm_program_ends() -> Iterator[None]:
    yield
    if warm_program.cache_info().currsize:
        warm_program(machine_program()).close()


@pytest.fixture(scope="session", autouse=True)
def real_path() -> None:
    """Have all programs of this host, because each world has a PATH of its own."""
    os.environ["PATH"] = os.environ.pop(REAL_PATH, os.environ["PATH"])


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    return make_images(tmp_path_factory.mktemp("images"))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "w")


@pytest.fixture
def host(short_path: Path) -> Iterator[RemoteHost]:
    """A host over SSH, on which the user core has Podman and no sudo."""
    with remote_host(short_path) as made:
        made.has_podman()
        made.listens()
        yield made


@pytest.fixture
def machines_elsewhere(world: World) -> Iterator[None]:
    """Provide what machines of a host over SSH need. Afterwards they are removed, and no process may be left."""
    world.link_tool("ssh-keygen", "ssh-add", "sh")
    yield
    remove_machines(world)


@pytest.fixture
def podman_world(world: World) -> World:
    """A world with an old podman on PATH, which keeps its connections in containers.conf."""
    world.link_tool("podman")
    return world


@pytest.fixture
def box(world: World, images: Images) -> Iterator[World]:
    """A world with the machine `box`; afterwards all machines are removed and no process may be left."""
    world.init("box", images.qcow2, "--disk-size", "7")
    yield world
    remove_machines(world)


def remove_machines(world: World) -> None:
    """Remove all machines, and check that no process is left."""
    for name in sorted(path.name for path in world.machines.glob("[!.]*") if path.is_dir()):
        world.machine("unprotect", name)
        world.machine("rm", "--force", name)
    assert machine_processes(world.home) == []


@pytest.fixture
def suspended(box: World) -> World:
    """A machine with a saved memory that no QEMU can load."""
    put_to_sleep(box)
    return box


@pytest.fixture
def server() -> Iterator[ImageServer]:
    with serving() as images:
        yield images


@pytest.fixture
def sshd(short_path: Path) -> Iterator[Sshd]:
    for name in ("keys", "server"):
        (short_path / name).mkdir()
    with serving_sshd(short_path / "keys", short_path / "server") as served:
        yield served


@pytest.fixture
def guest(short_path: Path) -> Iterator[Guest]:
    with running_guest(short_path) as running:
        yield running


@pytest.fixture
def files(guest: Guest) -> Iterator[GuestFiles]:
    """The guest's files, in this process."""
    with guest_files("box", guest.sshd.target) as opened:
        yield opened
