"""Flags that podman machine has too, with real disks, records and clients' files; nothing boots."""

from __future__ import annotations

import json
import os
import pty
import stat
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.clients import connections_of
from tests.support.disk_images import Images, qemu_img
from tests.support.world import COMMAND_S, World, machine_program

OFFER = """
import sys
from machine.cli.start import offer_connection
offer_connection("box", {"yes": True, "no": False, "ask": None}[sys.argv[1]])
"""

QUESTION = (
    "\nWarning: The machine being started is not set as your default Podman connection.\n"
    "As such, Podman commands may not work correctly.\n"
    "Set the default Podman connection to this machine? [y/N] "
)


def on_terminal(world: World, argv: list[str], typed: str) -> tuple[int, str]:
    """The exit status of a program, and what it shows on a terminal of its own, at which `typed` is typed."""
    parent, child = pty.openpty()
    attributes = termios.tcgetattr(child)
    attributes[3] &= ~termios.ECHO
    attributes[1] &= ~termios.OPOST
    termios.tcsetattr(child, termios.TCSANOW, attributes)
    os.write(parent, typed.encode())

    with subprocess.Popen(
        argv, env=world.environment, stdin=child, stdout=child, stderr=child, start_new_session=True
    ) as process:  # fmt: skip
        os.close(child)
        shown = b""
        while True:
            try:
                chunk = os.read(parent, 65536)
            except OSError:  # Linux's way to say that nobody has the other side any more
                break
            if not chunk:
                break
            shown += chunk
        process.wait(COMMAND_S)
    os.close(parent)
    return process.returncode, shown.decode()


@pytest.fixture
def other_default(world: World, images: Images) -> World:
    """A world where the machine `box` is not the default connection."""
    world.init("other", images.qcow2)
    world.init("box", images.qcow2)
    assert world.connections["Default"] == "other"
    return world


@pytest.mark.parametrize(
    ("wanted", "typed", "shown", "default"),
    [
        ("ask", "y\n", QUESTION, "box"),
        ("ask", "n\n", QUESTION, "other"),
        ("ask", "\n", QUESTION, "other"),
        ("yes", "", "", "box"),
        ("no", "", "", "other"),
    ],
)
def test_person_at_a_terminal_is_asked_for_the_default(
    wanted: str, typed: str, shown: str, default: str, other_default: World
) -> None:
    argv = [sys.executable, "-c", OFFER, wanted]
    assert on_terminal(other_default, argv, typed) == (0, shown)
    assert other_default.connections["Default"] == default


def test_nobody_is_asked_where_the_machine_is_the_default(world: World, images: Images) -> None:
    world.init("box", images.qcow2)
    assert on_terminal(world, [sys.executable, "-c", OFFER, "ask"], "n\n") == (0, "")


def test_without_a_terminal_nobody_is_asked(other_default: World) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OFFER, "ask"], env=other_default.environment, input="y\n", capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("", "")
    assert other_default.connections["Default"] == "other"


@pytest.mark.parametrize(
    ("words", "default"),
    [
        ([], "first"),
        (["-u"], "second"),
        (["--update-connection=false"], "first"),
        (["-u", "--rootful"], "second-root"),
    ],
)
def test_init_makes_the_machine_the_default_on_request(
    words: list[str], default: str, world: World, images: Images
) -> None:
    world.init("first", images.qcow2)
    world.init("second", images.qcow2, *words)
    assert world.connections["Default"] == default


def test_old_podman_gets_the_default_too(podman_world: World, images: Images) -> None:
    podman_world.init("first", images.qcow2)
    podman_world.init("second", images.qcow2, "-u")
    assert podman_world.connections["Default"] == "second"
    assert connections_of(podman_world)["second"][1] == "true"


# What init notes


def test_swap_and_usb_devices_are_in_the_record_and_where_they_work(world: World, images: Images) -> None:
    world.init("box", images.qcow2, "--swap", "512", "--usb", "bus=1,devnum=2", "--usb", "product=c52b,vendor=046d")
    assert world.inspect("box")["Resources"]["USBs"] == [
        {"Bus": "1", "DevNumber": "2", "Vendor": 0, "Product": 0},
        {"Bus": "", "DevNumber": "", "Vendor": 0x46D, "Product": 0xC52B},
    ]
    assert json.loads(world.machine("ls", "--format", "json").stdout)[0]["Swap"] == str(512 * 1024**2)
    config = json.loads((world.machines / "box" / "config.ign").read_bytes())
    (swap,) = [file for file in config["storage"]["files"] if file["path"] == "/etc/systemd/zram-generator.conf"]
    assert swap["contents"]["source"].endswith("zram-size%3D512%0A")
    world.must("set", "--usb", "bus=3,devnum=4", "box")
    assert [device["Bus"] for device in world.inspect("box")["Resources"]["USBs"]] == ["3"]
    world.must("set", "--cpus", "1", "box")
    assert len(world.inspect("box")["Resources"]["USBs"]) == 1
    world.must("set", "--usb", "", "box")
    assert world.inspect("box")["Resources"]["USBs"] == []


def test_flags_of_other_hosts_are_taken_and_deprecated_ones_are_told(world: World, images: Images) -> None:
    outcome = world.machine(
        "init", "box", "--image-path", images.qcow2, "--volume-driver=virtfs", "--user-mode-networking=false",
        "--tls-verify=false", "--rootful=false", "--now=false", "--provider", "qemu", "--volume", "",
    )  # fmt: skip
    assert outcome.status == 0
    lines = [line for line in outcome.stderr.splitlines() if not line.startswith(("Verifying ", "Unpacking "))]
    assert lines == [
        "Flag --image-path has been deprecated, use --image instead",
        "Machines always use user-mode networking, so --user-mode-networking=false has no effect",
    ]


def test_programs_are_looked_for_where_podman_looks_first(world: World, images: Images, tmp_path: Path) -> None:
    helpers = tmp_path / "helpers"
    helpers.mkdir()
    for tool in ("qemu-img", "qemu-system-x86_64"):
        (world.bin / tool).rename(helpers / tool)
    refused = world.machine("init", "--image", images.qcow2, "box")
    assert (refused.status, "is not installed on this host" in refused.stderr) == (125, True)
    world.extra["CONTAINERS_HELPER_BINARY_DIR"] = str(helpers)
    world.init("box", images.qcow2)
    document = json.loads(world.machine("info", "--format", "json").stdout)
    assert document["Machine"]["QEMU"]["Path"] == str(helpers / "qemu-system-x86_64")


# rm


def kept(outcome_stderr: str) -> list[Path]:
    return [Path(line.rpartition(": ")[2]) for line in outcome_stderr.splitlines()]


def test_kept_files_outlive_the_machine_and_its_base(world: World, images: Images) -> None:
    world.init("box", images.qcow2, "--disk-size", "1")
    ignition = (world.machines / "box" / "config.ign").read_bytes()
    removed = world.must("rm", "--force", "--save-image", "--save-ignition", "box")
    saved = world.home / "data" / "saved"
    assert removed.stderr == (
        f'The disk of "box" is kept: {saved}/box.qcow2\nThe Ignition config of "box" is kept: {saved}/box.ign\n'
    )
    world.must("reset", "--force")
    disk = saved / "box.qcow2"
    qemu_img("compare", "-f", "qcow2", "-F", "raw", disk, images.raw)
    assert "backing-filename" not in json.loads(qemu_img("info", "--output=json", disk))
    assert (saved / "box.ign").read_bytes() == ignition
    assert {stat.S_IMODE(path.stat().st_mode) for path in saved.iterdir()} == {0o600}
    world.init("box", disk, "--disk-size", "1")
    again = world.must("rm", "--force", "--save-image", "box")
    assert kept(again.stderr) == [saved / "box-1.qcow2"]
    assert sorted(path.name for path in saved.iterdir()) == ["box-1.qcow2", "box.ign", "box.qcow2"]


def test_what_is_kept_is_not_among_what_will_be_deleted(world: World, images: Images) -> None:
    world.init("box", images.qcow2)

    def listed(*words: str) -> set[str]:
        done = subprocess.run(
            [machine_program(), "rm", "box", *words], env=world.environment, input="n\n", capture_output=True,
            text=True, check=True,
        )  # fmt: skip
        assert done.stdout.startswith("The following files will be deleted:\n\n")
        assert done.stdout.endswith("\n\nAre you sure you want to continue? [y/N] ")
        return {Path(line).name for line in done.stdout.splitlines() if line.startswith("/")}

    everything = listed()
    assert {"record.json", "disk.qcow2", "config.ign", "id_ed25519"} < everything
    assert listed("--save-image") == everything - {"disk.qcow2"}
    assert listed("--save-ignition", "--save-image=false") == everything - {"config.ign"}


def damage_disk(world: World) -> None:
    (world.machines / "box" / "disk.qcow2").write_bytes(b"no disk")


def remove_disk(world: World) -> None:
    (world.machines / "box" / "disk.qcow2").unlink()


def remove_ignition(world: World) -> None:
    (world.machines / "box" / "config.ign").unlink()


@pytest.mark.parametrize(
    ("harm", "words"),
    [(damage_disk, ["--save-image"]), (remove_disk, ["--save-image"]), (remove_ignition, ["--save-ignition"])],
)
def test_machine_stays_where_its_files_cannot_be_kept(
    harm: Callable[[World], None], words: list[str], world: World, images: Images
) -> None:
    world.init("box", images.qcow2)
    world.edit_record("box", guest={"provisioned": True})
    harm(world)
    before = world.files()
    outcome = world.machine("rm", "--force", *words, "box")
    assert (outcome.status, outcome.stdout) == (125, "")
    assert len([line for line in outcome.stderr.splitlines() if line.startswith("Error: ")]) == 1
    assert world.files() == before
    assert not list((world.home / "data" / "saved").glob("*"))
