"""A guest with the shape of Fedora CoreOS: its root directory, its sshd and bash, and a first boot that reboots."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fedora_shape import fedora_shaped_image
from tests.support.guest_containers import check_statuses, run_containers, take_statuses
from tests.support.guest_network import answers
from tests.support.world import World

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(os.getuid() != 0, reason="only root mounts an image to change what is in it"),
]

SIZE = ("--disk-size", "12", "--memory", "1024", "--no-verify-signature")


@pytest.fixture(scope="module")
def image(streams: Path) -> Path:
    return fedora_shaped_image(streams)


@pytest.fixture(scope="module")
def folders(world: World) -> list[str]:
    """Words for `init` with two folders that need new directories in the guest's root directory."""
    for name in ("src", "data"):
        folder = world.root / "shape" / name
        folder.mkdir(parents=True)
        (folder / "hosts").write_text(f"{name}\n")
    return ["--volume", f"{world.root}/shape/src:/src", "--volume", f"{world.root}/shape/data:/data"]


@pytest.fixture(scope="module")
def shape(world: World, image: Path, folders: list[str]) -> Iterator[str]:
    """The name of a running machine with two folders."""
    world.must("init", "--image", image, *SIZE, *folders, "shape")
    world.must("start", "shape")
    yield "shape"
    world.must("rm", "--force", "shape")


def ssh(world: World, script: str, name: str = "shape") -> str:
    return world.must("ssh", name, script).stdout


def test_folders_are_in_new_directories_of_the_root_directory(world: World, shape: str) -> None:
    assert world.state(shape) == ("running", "")
    assert ssh(world, "cat /src/hosts /data/hosts; echo guest >/src/guests") == "src\ndata\n"
    assert (world.root / "shape" / "src" / "guests").read_text() == "guest\n"
    script = "! sudo mkdir /new && ! sudo touch /usr/new && lsattr -d / | cut -c 5; systemctl --failed --no-legend"
    assert ssh(world, script) == "i\n"


def test_policy_of_selinux_is_enforced(world: World, shape: str) -> None:
    assert (
        ssh(world, "cat /sys/fs/selinux/enforce; id -Z") == "1unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023\n"
    )


def test_user_is_served_as_by_podmans_own_image(world: World, shape: str) -> None:
    assert answers(world, shape)
    assert answers(world, f"{shape}-root")
    uid = ssh(world, "id -u").strip()
    script = (
        "echo $DOCKER_HOST; lsmod | grep -Ec '^ip6?_tables ';"
        "sudo /usr/sbin/sshd -T | grep -E '^(maxsessions|persourcepenalties) ';"
        "systemctl is-active network-online.target NetworkManager.service systemd-networkd.service;"
        "timeout 10 systemctl --user start podman-user-wait-network-online.service && echo waited"
    )
    assert ssh(world, script).splitlines() == [
        f"unix:///run/user/{uid}/podman/podman.sock",
        "2",
        "maxsessions 100",
        "persourcepenalties no",
        "active",
        "active",
        "inactive",
        "waited",
    ]


def test_newer_image_in_the_registry_is_found(world: World, shape: str) -> None:
    make = 'd=/var/os; sudo mkdir -p $d; echo "{\\"layers\\": []}" | sudo tee $d/manifest.json | sha256sum | cut -c -64'
    newest = f"sha256:{ssh(world, make).strip()}"
    for booted, is_new in ((newest, False), ("sha256:1", True)):
        ssh(world, f"echo {booted} | sudo tee /var/os/booted")
        told = json.loads(world.must("os", "upgrade", "--dry-run", "--format", "json", shape).stdout)["machine"]
        assert told["inband_update_available"] is is_new
        assert (told["current_hash"], told["new_hash"]) == (booted, newest)


def test_next_boot_mounts_the_folders_and_starts_the_containers_by_itself(
    world: World, shape: str, busybox: Path
) -> None:
    world.remote(shape, "import", "--quiet", str(busybox), "busybox")
    run_containers(world, shape)
    world.must("restart", shape)
    assert world.state(shape) == ("running", "")
    assert ssh(world, "cat /src/hosts /data/hosts") == "src\ndata\n"
    check_statuses(*take_statuses(world, shape))


def test_guest_with_composefs_says_what_lets_it_have_a_folder(world: World, image: Path, folders: list[str]) -> None:
    world.must("init", "--image", image, *SIZE, "--volume", "", "sealed")
    world.must("start", "sealed")
    refused = world.machine("mount", "add", "sealed", folders[1])
    assert refused.status == 125
    told = "the root directory is read-only; run this as root in the guest, and restart the machine: "
    assert f"Error: /src is not mounted: {told}" in refused.stderr
    command = refused.stderr.strip().rpartition(told)[2].splitlines()[0]
    world.must("ssh", "--username", "root", "sealed", command)
    world.must("restart", "sealed")
    world.must("mount", "add", "sealed", folders[1])
    assert ssh(world, "cat /src/hosts", "sealed") == "src\n"
    world.must("rm", "--force", "sealed")
