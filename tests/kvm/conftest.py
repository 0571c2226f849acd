"""A machine on KVM, in the emulated host that `scripts/test kvm` starts (tests/kvm/enter.sh).

Nothing is skipped: where KVM does not work, the tests fail.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.guests import busybox_archive, make_guest_world, take_down
from tests.support.kvm_machine import BOOT_S, NAME, KvmMachine
from tests.support.world import World

STREAMS, IMAGES = Path("/streams"), Path("/images")
"""The local stream and the unpacked images of the real host."""

SHARED = Path("/srv/shared")
"""A folder on the emulated host's own disk. An overlay has no file handles."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(2 * BOOT_S))


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    assert STREAMS.is_dir(), "these tests run in an emulated host; use: scripts/test kvm"
    made = make_guest_world(STREAMS, os.getuid(), timeout_s=BOOT_S)
    # An emulated host is slow, and deadlines under KVM are short.
    made.extra["MACHINE_PATIENCE"] = "60"
    # Unpacking an image takes minutes in an emulated host.
    shutil.copytree(IMAGES, made.cache)
    yield made
    take_down(made)


@pytest.fixture(scope="session")
def machine(world: World) -> KvmMachine:
    """The machine, after `init`; its folder has a file `word`."""
    folder = SHARED
    folder.mkdir(exist_ok=True)
    (folder / "word").write_text("from the host\n")
    size = ("--memory", "2048", "--cpus", "1", "--disk-size", "12")
    world.must("init", "--image", "boot2podman", *size, "--volume", f"{folder}:/mnt/shared", NAME)
    return KvmMachine(world=world, folder=folder)


@pytest.fixture
def box(machine: KvmMachine) -> KvmMachine:
    """The machine, running."""
    machine.run()
    return machine


@pytest.fixture(scope="session")
def busybox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A container image with this host's own static busybox."""
    return busybox_archive(Path("/usr/bin/busybox"), tmp_path_factory.mktemp("busybox"))
