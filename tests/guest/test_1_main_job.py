"""The main job on real guests: two commands, and Podman on the host has containers."""

from __future__ import annotations

import os

import pytest

from tests.conftest import FEDORA_SHAPE
from tests.support.guest_machines import MainMachine
from tests.support.world import World

pytestmark = pytest.mark.usefixtures("box", "box2")


def test_both_machines_run_at_once(world: World, ordinary_world: World) -> None:
    assert world.state("box") == ("running", "")
    assert ordinary_world.state("box2") == ("running", "")
    assert "Currently running" in world.must("ls").stdout


def test_the_guest_is_the_image_that_was_built(world: World, pytestconfig: pytest.Config) -> None:
    release = world.must("ssh", "box", "--", "cat", "/etc/os-release").stdout
    variant = "coreos" if pytestconfig.getoption(FEDORA_SHAPE) else "boot2podman"
    assert f"VARIANT_ID={variant}" in release.replace('"', "")


def test_the_image_from_the_mirror_is_verified(world: World, mirror: str) -> None:
    image = world.inspect("box")["Machine"]["Image"]
    assert image["Reference"] == "fcos:stable"
    assert image["Location"].startswith(mirror)
    assert image["Verified"] == "signature"


def test_ssh_passes_words_raw_and_the_remote_status_on(world: World) -> None:
    assert world.machine("ssh", "box", "echo $((6*7)); exit 23").status == 23
    assert world.must("ssh", "box", "echo", "$((6*7))").stdout == "42\n"
    assert world.must("ssh", "box", "--", "ls", "-d", "/").stdout == "/\n"


def test_ssh_logs_in_as_the_user_of_the_machine_or_another(world: World, ordinary_world: World) -> None:
    assert world.must("ssh", "box", "id", "-un").stdout == "core\n"
    assert world.must("ssh", "--username", "root", "box", "id", "-un").stdout == "root\n"
    assert ordinary_world.must("ssh", "box2", "id", "-un").stdout == "root\n"


def test_ssh_is_not_misled_by_a_hostile_configuration(world: World) -> None:
    config = world.root / "home" / ".ssh" / "config"
    config.parent.mkdir(mode=0o700)
    config.write_text("Host *\n  User nobody\n  Port 1\n  ProxyCommand false\n  IdentityFile /nonexistent\n")
    assert world.must("ssh", "box", "id", "-un").stdout == "core\n"


def test_the_guest_has_the_host_key_that_the_host_made(world: World) -> None:
    expected = (world.machines / "box" / "ssh_host_ed25519_key.pub").read_text().split()[1]
    assert world.must("ssh", "box", "cat", "/etc/ssh/ssh_host_ed25519_key.pub").stdout.split()[1] == expected


def test_the_guest_is_provisioned_as_asked(world: World, ordinary_world: World) -> None:
    script = (
        "id -u core; cat /etc/subuid; systemctl is-enabled podman.socket;"
        "test ! -e /boot/ignition.firstboot && echo done;"
        "sudo grep -c '^core:[!*]' /etc/shadow; hostname"
    )
    uid = 1000 if world.uid == 0 else world.uid
    assert world.must("ssh", "box", script).stdout.split() == [
        str(uid), "core:100000:1000000", "enabled", "done", "1", "box",
    ]  # fmt: skip
    uid = ordinary_world.uid or 1000
    assert ordinary_world.must("ssh", "box2", "id", "-u", "core").stdout.strip() == str(uid)


def test_the_root_file_system_has_grown_to_the_disk(world: World) -> None:
    size = int(world.must("ssh", "box", "df --output=size -B1 / | tail -1").stdout)
    assert size > 11 * 1024**3


def test_podman_of_the_host_runs_a_container(world: World, main_machine: MainMachine) -> None:
    assert "arch: amd64" in world.remote("box", "info").stdout
    main_machine.import_busybox()
    assert world.remote("box", "run", "--rm", "busybox", "echo", "hello").stdout == "hello\n"
    main_machine.run_sleeper()
    assert "sleeper" in world.remote("box", "ps", "--format", "{{.Names}}").stdout


def test_the_root_connection_reaches_roots_containers(world: World) -> None:
    assert world.remote("box-root", "info", "--format", "{{.Host.Security.Rootless}}").stdout == "false\n"
    assert world.remote("box", "info", "--format", "{{.Host.Security.Rootless}}").stdout == "true\n"


def test_a_rootful_machine_prefers_the_root_socket(ordinary_world: World) -> None:
    socket = ordinary_world.inspect("box2")["ConnectionInfo"]["PodmanSocket"]["Path"]
    assert socket.endswith("/podman-root.sock")
    assert ordinary_world.remote("box2-root", "info", "--format", "{{.Host.Security.Rootless}}").stdout == "false\n"


def test_starting_or_removing_a_running_machine_is_refused(world: World) -> None:
    again = world.machine("start", "box")
    assert (again.status, again.stderr) == (125, 'Error: unable to start "box": already running\n')
    removal = world.machine("rm", "box")
    assert removal.status == 125
    assert removal.stderr.startswith('Error: running vm "box" cannot be destroyed')


def test_only_private_files_and_sockets_are_made(world: World) -> None:
    for directory in (world.machines / "box", world.runtime("box")):
        assert directory.stat().st_mode & 0o077 == 0
    secrets = ("id_ed25519", "ssh_host_ed25519_key", "config.ign", "record.json", "disk.qcow2", "serial.log")
    for name in secrets:
        assert (world.machines / "box" / name).stat().st_mode & 0o077 == 0, name


def test_files_go_in_and_out(world: World) -> None:
    tree = world.root / "tree"
    (tree / "ünder").mkdir(parents=True)
    (tree / "ünder" / "a b").write_bytes(bytes(range(256)) * 5000)
    (tree / "run").write_text("#!/bin/sh\necho ran\n")
    (tree / "run").chmod(0o755)
    os.utime(tree / "run", (1_000_000_000, 1_000_000_000))
    assert world.must("cp", str(tree), "box:.").stdout == "Copy successful\n"
    assert world.must("ssh", "box", "tree/run; stat -c %Y tree/run").stdout == "ran\n1000000000\n"
    back = world.root / "back"
    world.must("cp", "-q", "box:tree", str(back))
    assert (back / "ünder" / "a b").read_bytes() == (tree / "ünder" / "a b").read_bytes()
    assert (back / "run").stat().st_mode == (tree / "run").stat().st_mode
    assert world.must("cp", "box:/etc/hostname", "-").stdout == "box\n"
