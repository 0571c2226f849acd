"""`machine clone` without a boot: what it makes, what it leaves alone, and what it tells a guest."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from machine.files import sha256_of
from machine.ignition.rekey import Rekey, credentials
from machine.qemu.img import QemuImg
from machine.qemu.smbios import credentials_table
from tests.support.builders import KEYS
from tests.support.disk_images import Images, qemu_img
from tests.support.world import World

OLD_KEY = "ssh-ed25519 AAAA+old/key machine-old"


@pytest.fixture
def box(world: World, images: Images) -> World:
    world.init("box", images.qcow2, "--disk-size", "3")
    return world


def has_booted(world: World, name: str) -> None:
    """As a first boot leaves it: something on the disk, and the Ignition config used up."""
    subprocess.run(
        ["qemu-io", "-f", "qcow2", "-c", "write -P 0x5a 1G 64k", "-c", "write -z 0 64k",
         world.machines / name / "disk.qcow2"],
        check=True, capture_output=True,
    )  # fmt: skip
    world.edit_record(name, guest={"provisioned": True})


def clone(world: World, *words: str) -> None:
    done = world.machine("clone", *words)
    assert done.status == 0, done.stderr
    first, *rest = done.stdout.splitlines()
    assert first == f'Machine "{words[0]}" cloned to "{words[1]}"'
    assert rest == ["To start your machine run:", "", f"\tmachine start {words[1]}", ""]


def same_content(first: Path, second: Path) -> bool:
    return "identical" in qemu_img("compare", first, second)


def test_clone_has_the_disk_and_nothing_else_of_the_machine(box: World) -> None:
    has_booted(box, "box")
    given = {"forwards": ["127.0.0.1:8080:80/tcp"], "usbs": ["bus=1,devnum=2"], "protected": True, "rootful": True}
    box.edit_record("box", config=given)
    before = sha256_of(box.machines / "box" / "disk.qcow2")
    done = box.machine("clone", "box", "twin")
    assert done.status == 0, done.stderr
    assert 'The manually added ports and USB devices of "box" are not copied to "twin"\n' in done.stderr
    assert sha256_of(box.machines / "box" / "disk.qcow2") == before
    assert same_content(box.machines / "box" / "disk.qcow2", box.machines / "twin" / "disk.qcow2")
    assert QemuImg().backing_file(box.machines / "twin" / "disk.qcow2") == QemuImg().backing_file(
        box.machines / "box" / "disk.qcow2"
    )
    one, two = (json.loads((box.machines / name / "record.json").read_bytes()) for name in ("box", "twin"))
    own = {"name", "created", "mac", "ssh_port", "forwards", "usbs", "protected"}
    assert {key for key in one["config"] if one["config"][key] != two["config"][key]} == own
    assert (one["pending"], one["guest"]) == ({**two["pending"], "rekey": False}, two["guest"])
    assert two["pending"]["rekey"]
    for name in ("id_ed25519", "id_ed25519.pub", "ssh_host_ed25519_key", "known_hosts", "config.ign"):
        assert (box.machines / "box" / name).read_bytes() != (box.machines / "twin" / name).read_bytes(), name
    assert set(box.connections["Connections"]) == {"box", "box-root", "twin", "twin-root"}
    assert (box.machines / "twin" / "run").readlink() != (box.machines / "box" / "run").readlink()
    for path in (box.machines / "twin").iterdir():
        assert path.is_symlink() or path.suffix == ".pub" or path.stat().st_mode & 0o077 == 0, path
    assert (box.machines / "twin" / "identity.smbios").exists()


def test_either_can_be_removed_or_changed_and_the_other_stays(box: World) -> None:
    has_booted(box, "box")
    clone(box, "box", "twin")
    clone(box, "box", "third")
    copy = box.machines / "copy.qcow2"
    QemuImg().flatten(box.machines / "box" / "disk.qcow2", copy)
    assert box.machine("set", "--disk-size", "4", "box").status == 0
    assert box.machine("rm", "--force", "box").status == 0
    assert box.machine("rm", "--force", "third").status == 0
    assert box.machine("image", "prune").status == 0
    assert same_content(copy, box.machines / "twin" / "disk.qcow2")
    assert box.machine("rm", "--force", "twin").status == 0
    assert box.connections["Connections"] == {}


def test_clone_of_a_machine_that_has_never_run_is_a_new_machine(box: World) -> None:
    clone(box, "box", "twin")
    record = json.loads((box.machines / "twin" / "record.json").read_bytes())
    assert (record["guest"]["provisioned"], record["pending"]["rekey"]) == (False, False)
    assert not (box.machines / "twin" / "identity.smbios").exists()
    public = (box.machines / "twin" / "id_ed25519.pub").read_text().split()[1]
    assert public in (box.machines / "twin" / "config.ign").read_text()


def test_clone_that_is_not_rekeyed_yet_is_not_cloned(box: World) -> None:
    has_booted(box, "box")
    clone(box, "box", "twin")
    refused = box.machine("clone", "twin", "third")
    line = 'unable to clone "twin": it is a clone that has never been started; start it once: machine start twin'
    assert (refused.status, refused.stderr) == (125, f"Error: {line}\n")


def test_damaged_disk_makes_no_clone(box: World) -> None:
    has_booted(box, "box")
    (box.machines / "box" / "disk.qcow2").write_bytes(b"QFI\xfb" + bytes(100))
    before = box.files()
    refused = box.machine("clone", "box", "twin")
    assert refused.status == 125
    assert refused.stderr.splitlines()[-1].startswith("Error: qemu-img failed with exit status 1: ")
    assert box.files() == before


def test_clone_that_is_killed_at_any_moment_is_whole_or_not_there(box: World) -> None:
    has_booted(box, "box")
    before = sha256_of(box.machines / "box" / "disk.qcow2")
    for step in range(8):
        with box.popen("clone", "box", "twin") as process:
            time.sleep(0.25 + 0.06 * step)
            process.kill()
            process.communicate()
        if "twin" in box.machine("ls", "-q").stdout:
            # The one step that is left is to tell clients; a start takes it.
            assert same_content(box.machines / "box" / "disk.qcow2", box.machines / "twin" / "disk.qcow2")
            assert box.machine("rm", "--force", "twin").status == 0
        assert sha256_of(box.machines / "box" / "disk.qcow2") == before
    clone(box, "box", "twin")
    assert sorted(path.name for path in box.machines.iterdir() if path.name != ".lock") == ["box", "twin"]


def make_guest(root: Path) -> None:
    """The part of a guest's root file system that rekeying changes."""
    for name, content in {
        "etc/machine-id": "0" * 32,
        "etc/hostname": "old",
        "etc/ssh/ssh_host_ed25519_key": "OLD PRIVATE",
        "etc/ssh/ssh_host_ed25519_key.pub": "OLD PUBLIC",
        "etc/ssh/ssh_host_rsa_key": "RSA",
        "etc/ssh/ssh_host_rsa_key.pub": "RSA PUBLIC",
        "root/.ssh/authorized_keys.d/ignition": OLD_KEY,
        "home/core/.ssh/authorized_keys": f"ssh-ed25519 AAAAmine me@host\n{OLD_KEY}\nssh-rsa AAAAtoo",
        "home/other/.ssh/authorized_keys": "ssh-ed25519 AAAAmine me@host",
        "var/lib/systemd/random-seed": "seed",
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    (root / "etc/ssh/ssh_host_ed25519_key").chmod(0o640)


def script() -> str:
    rekey = Rekey(hostname="a-b", machine_id="1" * 32, keys=KEYS, old_key=OLD_KEY)
    return credentials(rekey)["boot2podman.identity"]


def test_guest_is_rekeyed_in_place_once_and_again(tmp_path: Path) -> None:
    root = tmp_path / "it's sysroot"
    make_guest(root)
    inodes = {path: path.stat().st_ino for path in root.rglob("*") if path.is_file()}
    (tmp_path / "script").write_text(script())
    for _ in range(2):
        subprocess.run(["sh", tmp_path / "script", root], check=True)
        assert {path: path.stat().st_ino for path in inodes} == inodes
        assert (root / "etc/machine-id").read_text() == "1" * 32 + "\n"
        assert (root / "etc/hostname").read_text() == "a-b\n"
        assert (root / "etc/ssh/ssh_host_ed25519_key").read_text() == KEYS.host_private
        assert (root / "etc/ssh/ssh_host_ed25519_key").stat().st_mode & 0o777 == 0o640
        assert (root / "etc/ssh/ssh_host_ed25519_key.pub").read_text() == f"{KEYS.host_public}\n"
        assert (root / "root/.ssh/authorized_keys.d/ignition").read_text() == f"{KEYS.authorized}\n"
        assert (root / "home/core/.ssh/authorized_keys").read_text() == (
            f"ssh-ed25519 AAAAmine me@host\n{KEYS.authorized}\nssh-rsa AAAAtoo\n"
        )
        assert (root / "home/other/.ssh/authorized_keys").read_text() == "ssh-ed25519 AAAAmine me@host\n"


@pytest.mark.parametrize("early", [True, False])
def test_guest_restarts_where_its_initramfs_could_not_help(early: bool, tmp_path: Path) -> None:
    """In its own root, which is that of a mount namespace here; `systemctl` tells what it was asked."""
    root = tmp_path / "root"
    make_guest(root)
    (tmp_path / "script").write_text(script())
    if early:
        subprocess.run(["sh", tmp_path / "script", root], check=True)
    (root / "bin").mkdir()
    shutil.copy2("/bin/busybox", root / "bin" / "busybox")
    for applet in ("sh", "cat", "sed", "rm"):
        (root / "bin" / applet).symlink_to("busybox")
    (root / "bin" / "systemctl").write_text('#!/bin/sh\necho "$@" >/asked\n')
    (root / "bin" / "systemctl").chmod(0o755)
    shutil.copyfile(tmp_path / "script", root / "script")
    (root / "dev").mkdir()
    (root / "dev" / "null").touch()
    unshare = ["unshare", *([] if os.getuid() == 0 else ["--map-root-user"]), "--root", str(root)]
    done = subprocess.run(
        [*unshare, "/bin/sh", "/script", "/"], env={"PATH": "/bin"}, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (root / "asked").exists() is not early
    assert sorted(path.name for path in (root / "etc/ssh").iterdir()) == [
        "ssh_host_ed25519_key", "ssh_host_ed25519_key.pub",
    ]  # fmt: skip
    assert not (root / "var/lib/systemd/random-seed").exists()


def test_qemu_takes_the_table(tmp_path: Path) -> None:
    table = tmp_path / "a,b.smbios"
    rekey = Rekey(hostname="twin", machine_id="1" * 32, keys=KEYS, old_key=OLD_KEY)
    table.write_bytes(credentials_table(credentials(rekey)))
    done = subprocess.run(
        ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg", "-display", "none", "-nodefaults", "-S",
         "-smbios", f"file={str(table).replace(',', ',,')}", "-qmp", "stdio"],
        input='{"execute":"qmp_capabilities"}{"execute":"quit"}', capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
