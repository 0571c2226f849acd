"""The main job on a guest that the host's CPU cannot run."""

from __future__ import annotations

import json
from pathlib import Path

from machine.qemu.boards import BOARDS, ConfigSource
from tests.support.foreign_guests import NAME, Guest


def test_init_tells_how_much_slower_the_guest_will_be(guest: Guest) -> None:
    assert f"the guest is {guest.arch} and the host is x86_64" in guest.stderr
    assert "times slower" in guest.stderr


def test_a_container_of_the_guests_architecture_runs(guest: Guest, busybox: Path) -> None:
    world = guest.world
    world.remote(NAME, "import", "--quiet", str(busybox), "busybox")
    assert world.remote(NAME, "run", "--rm", "busybox", "uname", "-m").stdout == f"{guest.arch}\n"


def test_inspect_and_ls_name_the_architecture(guest: Guest) -> None:
    assert guest.world.inspect(NAME)["Machine"]["Arch"] == guest.arch
    listed = json.loads(guest.world.must("ls", "--format", "json").stdout)
    assert [entry["Arch"] for entry in listed] == [guest.arch]


def test_the_config_came_the_way_that_ignition_of_this_architecture_looks(guest: Guest) -> None:
    """Ignition has one way for each, compiled in: what it has written proves that the config came by it."""
    journal = guest.world.must("ssh", NAME, "journalctl --boot --identifier=ignition --output=cat").stdout
    by_disk = BOARDS[guest.arch].config_source is ConfigSource.DISK
    assert ("Fetching the Ignition config via the Virtio block driver" in journal) == by_disk
    assert "Ignition finished successfully" in journal


def test_the_next_boot_needs_no_config_any_more(guest: Guest) -> None:
    guest.world.must("restart", NAME)
    disks = guest.world.must("ssh", NAME, "ls /dev/disk/by-id 2>/dev/null || true").stdout
    assert "virtio-ignition" not in disks
    assert guest.world.must("ssh", NAME, "uname -m").stdout == f"{guest.arch}\n"


def test_image_of_another_architecture_is_known_by_the_boot_that_fails(guest: Guest, own_image: Path) -> None:
    """A local file, of which nothing is known before: the firmware finds no loader for its CPU."""
    world = guest.world
    world.must("stop", NAME)
    init = ("init", "--arch", guest.arch.value, "--image", str(own_image), "--disk-size", "12", "--now", "wrong")
    refused = world.machine(*init)
    assert refused.status == 125
    assert [line for line in refused.stderr.splitlines() if line.startswith("Error")] == [
        (
            'Error: unable to start "wrong" in phase boot: the firmware found nothing to boot; '
            f"the guest never reached its kernel; is this image for {guest.arch}?"
        )
    ]
    assert world.state("wrong") == ("stopped", "")
