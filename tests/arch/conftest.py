"""Emulated guests of other architectures than the host's; their images are cached like the guest tier's.

Building an image takes up to an hour, since its packages are configured under emulation. With `--cached-images`,
guests whose image is not in the cache are skipped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from machine.guestimage.publish import find_build
from machine.guestimage.recipe import recipe_key
from machine.model.arch import Arch
from machine.qemu.accelerator import is_native
from machine.this_host import current_host
from scripts.busybox import SUITE, static_busybox
from tests.support import real_runs
from tests.support.foreign_guests import NAME, Guest
from tests.support.guests import CACHE, busybox_archive, make_guest_world, publish, take_down

RECIPE = Path(__file__).parents[2] / "images" / "boot2podman"
# aarch64 boots with UEFI; ppc64le gets its Ignition config from a disk.
ARCHES = (Arch.AARCH64, Arch.PPC64LE)
BUILD_S = 2 * 3600
BOOT_S = 1800


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect all but the first test of an architecture that is skipped, so that the reason is reported once."""
    skipped: set[Arch] = set()
    deselected = []
    for item in items:
        if not isinstance(item, pytest.Function) or Path(__file__).parent not in item.path.parents:
            continue
        item.add_marker(pytest.mark.timeout(BUILD_S + BOOT_S))
        arch = Arch(str(item.callspec.params["first_boot"]))
        if skip_reason(arch, config):
            if arch in skipped:
                deselected.append(item)
            skipped.add(arch)
    config.hook.pytest_deselected(items=deselected)
    items[:] = [item for item in items if item not in deselected]


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    real_runs.finish(session, exitstatus, Path(__file__).parent)


def skip_reason(arch: Arch, config: pytest.Config) -> str | None:
    """Return why guests of `arch` are not booted; None if they are."""
    if is_native(arch, current_host()):
        return f"{arch} is this host's own architecture, which the guest tier boots"
    if config.getoption("--cached-images") and not is_cached(arch):
        return f"no {arch} guest is booted: its image is not in {CACHE}; scripts/test arch builds it"
    return None


def is_cached(arch: Arch) -> bool:
    data = CACHE / "data"
    return find_build(data / "streams", data / "keys", arch, recipe_key(RECIPE, arch, SUITE)) is not None


@pytest.fixture(scope="session", params=ARCHES, ids=str)
def first_boot(request: pytest.FixtureRequest) -> Iterator[Guest]:
    """A machine from `machine init --arch … --now`, shared by all tests of an architecture."""
    arch: Arch = request.param
    if reason := skip_reason(arch, request.config):
        pytest.skip(reason)
    streams = publish("--arch", arch.value, timeout_s=BUILD_S)
    world = make_guest_world(streams, os.getuid(), timeout_s=BOOT_S)
    size = ("--memory", "2048", "--cpus", "2")
    try:
        made = world.must("init", "--arch", arch.value, "--image", "boot2podman", *size, "--now", NAME)
        yield Guest(world=world, arch=arch, stderr=made.stderr)
    finally:
        take_down(world)
        real_runs.keep(request.config, world.real_runs)


@pytest.fixture
def guest(first_boot: Guest) -> Guest:
    """The machine, running."""
    if first_boot.world.state(NAME)[0] != "running":
        first_boot.world.must("start", NAME)
    return first_boot


@pytest.fixture(scope="session")
def own_image() -> Path:
    """The file of the disk image for the host's own architecture."""
    own = Arch.parse(current_host().machine)
    base = publish("--arch", own.value, timeout_s=BUILD_S)
    metadata = json.loads((base / "boot2podman.json").read_text())
    disk = metadata["architectures"][own]["artifacts"]["qemu"]["formats"]["qcow2.xz"]["disk"]["location"]
    return base / str(disk)


@pytest.fixture(scope="session")
def busybox(first_boot: Guest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A container image for the guest's architecture, with Debian's busybox."""
    return busybox_archive(
        static_busybox(first_boot.arch, CACHE), tmp_path_factory.mktemp(f"busybox-{first_boot.arch}")
    )
