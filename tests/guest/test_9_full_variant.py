"""The full variant of our own guest image: what the small one lacks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.foreign_program import aarch64_greeter
from tests.support.guests import make_guest_world, publish_variant, take_down
from tests.support.world import World

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def full() -> Iterator[World]:
    """A world with the running machine `full`."""
    world = make_guest_world(publish_variant("full"), os.getuid())
    world.must("init", "--image", "boot2podman", "--disk-size", "12", "--memory", "1024", "--now", "full")
    yield world
    take_down(world)
    shutil.rmtree(world.root, ignore_errors=True)


def test_containers_of_another_architecture_are_built_inspected_and_run(full: World, tmp_path: Path) -> None:
    (tmp_path / "greeter").write_bytes(aarch64_greeter())
    (tmp_path / "greeter").chmod(0o755)
    (tmp_path / "Containerfile").write_text('FROM scratch\nCOPY greeter /greeter\nCMD ["/greeter"]\n')
    for name in ("greeter", "Containerfile"):
        full.must("cp", tmp_path / name, f"full:{name}")
    script = (
        "buildah build --quiet --arch arm64 --tag greeter >/dev/null && podman run --rm --arch arm64 greeter && "
        "skopeo inspect --format '{{.Architecture}}' containers-storage:localhost/greeter"
    )
    assert full.must("ssh", "full", script).stdout == "hello from afar\narm64\n"


def test_nothing_says_that_it_is_lacking(full: World) -> None:
    script = "grep -c lacking /proc/sys/fs/binfmt_misc/* | grep -cv ':0$'; systemctl --failed --no-legend"
    assert full.must("ssh", "full", script + "; grep ^BOOT2PODMAN_VARIANT= /etc/os-release").stdout == (
        "0\nBOOT2PODMAN_VARIANT=full\n"
    )
