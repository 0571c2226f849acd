"""What is made under any umask: nobody else can write to it, and secrets are the user's alone."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.support.disk_images import Images
from tests.support.world import World, machine_program

SECRETS = ("id_ed25519", "ssh_host_ed25519_key", "config.ign", "disk.qcow2", "record.json", "supervisor.log")


def under(umask: str, world: World, *words: str | Path, status: int = 0) -> None:
    """`machine` with Podman's and Docker's files in the home directory, as is usual."""
    outcome = world.run(
        "/bin/sh", "-c", f'umask {umask}; exec "$@"', "sh", machine_program(), *words,
        check=False, DOCKER_CONFIG="", PODMAN_CONNECTIONS_CONF="",
    )  # fmt: skip
    assert outcome.status == status, outcome


def modes(directory: Path) -> dict[str, int]:
    return {
        str(path.relative_to(directory)): stat.S_IMODE(path.stat().st_mode)
        for path in directory.rglob("*")
        if not path.is_symlink()
    }


@pytest.mark.parametrize("umask", ["000", "022", "077"])
def test_nobody_else_can_write_to_what_we_make(umask: str, world: World, images: Images) -> None:
    under(umask, world, "init", "--image", images.xz, "box")
    under(umask, world, "clone", "box", "two")
    under(umask, world, "config", "set", "cpus", "1")
    world.without("qemu-system-x86_64")
    under(umask, world, "start", "box", status=125)
    under(umask, world, "rm", "--force", "--save-ignition", "two")
    made = modes(world.home) | modes(world.root / "home")
    assert {".docker", ".config/containers", ".docker/contexts/meta"} <= made.keys()
    assert {name: oct(mode) for name, mode in made.items() if mode & 0o022} == {}
    box = modes(world.machines / "box")
    assert {name: oct(box[name]) for name in SECRETS} == dict.fromkeys(SECRETS, "0o600")
    assert made["data/saved"] == 0o700
    assert made["data/saved/two.ign"] == 0o600
