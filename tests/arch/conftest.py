"""Guests of other architectures than the host's, emulated; their images are cached like the guest tier's.

Building one takes up to an hour, since its packages configure themselves under emulation. With `--cached-images` a
guest whose image is not in the cache is left out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from machine.hosts import current_host
from machine.image.build import recipe_key
from machine.image.build_publish import find_build
from machine.model.arch import Arch
from machine.qemu.acceleration import is_native
from tests.conftest import machine_program
from tests.guest.conftest import CACHE, World, busybox_archive, make_world, take_down

RECIPE = Path(__file__).parents[2] / "images" / "boot2podman"
SUITE = "trixie"
# aarch64 boots by UEFI, and ppc64le takes its Ignition config from a disk.
ARCHES = (Arch.AARCH64, Arch.PPC64LE)
BUILD_S = 2 * 3600
BOOT_S = 1800
NAME = "arm"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(BUILD_S + BOOT_S))


@dataclass(frozen=True, kw_only=True)
class Guest:
    """A machine that was made and started by one command, which wrote `said` to stderr."""

    world: World
    arch: Arch
    said: str


def is_cached(arch: Arch) -> bool:
    data = CACHE / "data"
    return find_build(data / "streams", data / "keys", arch, recipe_key(RECIPE, arch, SUITE)) is not None


def published(arch: Arch) -> Path:
    """The stream with the image of `arch`, which is built when it is not there."""
    environment = {**os.environ, "MACHINE_HOME": str(CACHE)}
    command = [machine_program(), "image", "build", "--arch", arch.value]
    subprocess.run(command, env=environment, check=True, timeout=BUILD_S)
    return CACHE / "data" / "streams"


@pytest.fixture(scope="session", params=ARCHES, ids=str)
def guest(request: pytest.FixtureRequest) -> Iterator[Guest]:
    """`machine init --arch … --now`, once for all tests of an architecture."""
    arch: Arch = request.param
    if is_native(arch, current_host()):
        pytest.skip(f"{arch} is this host's own architecture, which the guest tier boots")
    if request.config.getoption("--cached-images") and not is_cached(arch):
        pytest.skip(f"no {arch} guest is booted: its image is not in {CACHE}; scripts/test arch builds it")
    world = make_world(published(arch), os.getuid())
    try:
        init = (
            "init",
            "--arch",
            arch.value,
            "--image",
            "boot2podman",
            "--memory",
            "2048",
            "--cpus",
            "2",
            "--now",
            NAME,
        )
        made = world.machine(*init, timeout_s=BOOT_S)
        yield Guest(world=world, arch=arch, said=made.stderr)
    finally:
        take_down(world)


@pytest.fixture(scope="session")
def busybox(guest: Guest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A container image of the guest's architecture, from Debian's busybox for it."""
    program = CACHE / f"busybox-{SUITE}-{guest.arch}"
    if not program.exists():
        with tempfile.TemporaryDirectory(dir=CACHE) as directory:
            root = Path(directory) / "root"
            command = [
                "mmdebstrap", "--quiet", "--variant=extract", f"--architectures={guest.arch.debian}",
                "--include=busybox-static", SUITE, str(root),
            ]  # fmt: skip
            subprocess.run(command, check=True, timeout=600)
            fresh = shutil.copy2(root / "usr" / "bin" / "busybox", Path(directory) / "busybox")
            Path(fresh).rename(program)
    return busybox_archive(program, tmp_path_factory.mktemp(f"busybox-{guest.arch}"))
