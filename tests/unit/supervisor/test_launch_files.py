"""The files of a machine that a start checks before QEMU runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from machine.errors import MachineError
from machine.model.config import Provisioning
from machine.model.record import MachineRecord
from machine.store.paths import MachinePaths
from machine.supervisor.launch_files import check_files
from tests.support.builders import make_paths, make_record

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n-----END OPENSSH PRIVATE KEY-----\n"
KNOWN = "machine-box ssh-ed25519 AAAA\n"
FILES = {
    "disk.qcow2": "disk",
    "config.ign": "{}",
    "seed.img": "seed",
    "identity.smbios": "table",
    "id_ed25519": KEY,
    "known_hosts": KNOWN,
    "ssh_host_ed25519_key.pub": "ssh-ed25519 AAAA host-key-of-box\n",
}

NEW = make_record()
USED = replace(NEW, guest=replace(NEW.guest, provisioned=True))
CLONED = replace(USED, pending=replace(USED.pending, rekey=True))
CLOUD = replace(NEW, config=replace(NEW.config, provisioning=Provisioning.CLOUD_INIT))

RESTORE = "restore it from a backup, or "
CLONE = f"{RESTORE}make a clone, which gets keys of its own: machine clone box NAME"
ANEW = "its guest has not been up yet, so remove the machine and make it anew: machine rm box"


@pytest.fixture
def paths(tmp_path: Path) -> MachinePaths:
    made = make_paths(tmp_path)
    made.directory.mkdir(parents=True)
    for name, content in FILES.items():
        (made.directory / name).write_text(content)
        (made.directory / name).chmod(0o600)
    return made


def remove(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_text("")


def make_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def overwrite(path: Path) -> None:
    path.write_bytes(b"\0" * 400)


@pytest.mark.parametrize(
    ("record", "name", "damage", "message", "hint"),
    [
        (USED, "disk.qcow2", remove, "the disk of box is missing", f"{RESTORE}remove the machine: machine rm box"),
        (USED, "disk.qcow2", empty, "the disk of box is empty", f"{RESTORE}remove the machine: machine rm box"),
        (USED, "disk.qcow2", make_directory, "the disk of box is not a file", None),
        (NEW, "id_ed25519", remove, "the SSH key of box is missing", CLONE),
        (USED, "id_ed25519", empty, "the SSH key of box is empty", CLONE),
        (USED, "id_ed25519", make_directory, "the SSH key of box is not a file", CLONE),
        (USED, "id_ed25519", overwrite, "the SSH key of box is damaged", CLONE),
        (NEW, "config.ign", remove, "the first boot's configuration of box is missing", ANEW),
        (CLOUD, "seed.img", empty, "the first boot's configuration of box is empty", ANEW),
        (CLONED, "identity.smbios", remove, "the file with the new keys of a clone of box is missing", ANEW),
    ],
)
def test_file_that_cannot_be_used_is_named(
    paths: MachinePaths,
    record: MachineRecord,
    name: str,
    damage: Callable[[Path], None],
    message: str,
    hint: str | None,
) -> None:
    damage(paths.directory / name)
    with pytest.raises(MachineError) as caught:
        check_files(record, paths)
    assert caught.value.message == f"{message}: {paths.directory / name}"
    assert hint in (None, caught.value.hint)


@pytest.mark.parametrize(
    ("record", "names"),
    [
        (NEW, ["disk.qcow2", "seed.img", "identity.smbios"]),
        (USED, ["config.ign", "seed.img", "identity.smbios", "ssh_host_ed25519_key.pub"]),
        (CLOUD, ["config.ign"]),
    ],
    ids=["new", "used", "cloud-init"],
)
def test_files_that_a_start_does_not_read_may_be_missing(
    paths: MachinePaths, record: MachineRecord, names: list[str]
) -> None:
    for name in names:
        remove(paths.directory / name)
    check_files(record, paths)


@pytest.mark.parametrize("damage", [remove, empty, overwrite])
def test_known_hosts_are_written_anew(paths: MachinePaths, damage: Callable[[Path], None]) -> None:
    damage(paths.known_hosts)
    check_files(USED, paths)
    assert paths.known_hosts.read_text() == KNOWN


@pytest.mark.parametrize("damage", [remove, overwrite])
def test_host_key_is_named_when_known_hosts_need_it(paths: MachinePaths, damage: Callable[[Path], None]) -> None:
    remove(paths.known_hosts)
    damage(paths.directory / "ssh_host_ed25519_key.pub")
    with pytest.raises(MachineError, match=r"the host key of box is (missing|damaged): "):
        check_files(USED, paths)


def test_key_that_others_may_read_is_made_private(paths: MachinePaths) -> None:
    """OpenSSH would refuse the key."""
    paths.identity.chmod(0o644)
    check_files(USED, paths)
    assert paths.identity.stat().st_mode & 0o777 == 0o600
