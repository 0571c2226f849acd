"""What `machine set` makes of a record, and what it refuses; texts as podman has them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from machine.errors import BadInputError, MachineError
from machine.model.arch import Arch
from machine.model.folders import Folder
from machine.model.hardware import Suspension
from machine.model.record import Pending
from machine.model.transport import TransportChoice
from machine.ops.set import SetRequest, change_record, check_keeps_folders, plan_changes
from machine.store.suspension import commit_suspension, mark_of
from tests.support.builders import make_config, make_host, make_record, make_roots, save_machine
from tests.support.start import HARDWARE

HOST = make_host(cpus=4, memory_mib=8192)
TOO_MUCH = "greater than total system memory"


@pytest.mark.parametrize(
    ("asked", "config"),
    [
        ({}, make_config()),
        ({"cpus": 4, "memory_mib": 512}, make_config(cpus=4, memory_mib=512)),
        ({"disk_gib": 101}, make_config(disk_gib=101)),
        ({"rootful": True}, make_config(rootful=True)),
        ({"rootful": False}, make_config()),
    ],
)
def test_what_is_asked_for_changes_and_nothing_else(asked: dict[str, Any], config: object) -> None:
    assert plan_changes(make_config(), SetRequest(**asked), HOST) == config


def test_other_folders_take_the_place_of_all() -> None:
    folders = (Folder(source="/a", target="/b"),)
    changed = plan_changes(make_config(), SetRequest(volume_driver="sshfs"), HOST, folders)
    assert changed == make_config(folders=folders, volume_driver=TransportChoice.SSHFS)
    assert plan_changes(changed, SetRequest(mount_inotify=True), HOST).folders == folders
    assert plan_changes(changed, SetRequest(), HOST, ()).folders == ()


@pytest.mark.parametrize(
    ("asked", "outdated"),
    [
        ({"cpus": 1, "native_ca": True, "volume_driver": "sshfs"}, False),
        ({"disk_gib": 101}, True),
        ({"rootful": True}, True),
        ({"rootful": False}, False),
    ],
)
def test_guest_is_told_of_what_concerns_it(asked: dict[str, Any], outdated: bool) -> None:
    assert change_record(make_record(), SetRequest(**asked), HOST).pending.guest_outdated is outdated


def test_guest_is_told_of_other_folders() -> None:
    folders = (Folder(source="/a", target="/b"),)
    assert change_record(make_record(), SetRequest(), HOST, folders).pending.guest_outdated
    assert not change_record(make_record(folders=folders), SetRequest(), HOST, folders).pending.guest_outdated


def test_guest_that_was_not_told_yet_still_has_to_be() -> None:
    record = make_record(pending=Pending(guest_outdated=True))
    assert change_record(record, SetRequest(cpus=1), HOST).pending.guest_outdated


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ({"cpus": 5}, "requested number of CPUs (5) greater than number of host CPUs (4)"),
        ({"cpus": 0}, "requested number of CPUs (0) must be at least 1"),
        (
            {"memory_mib": 8193},
            f"requested amount of memory (8193 MB) {TOO_MUCH} (8192 MB); choose less memory",
        ),
        ({"memory_mib": 511}, "requested amount of memory (511 MB) must be at least 512 MB"),
        ({"disk_gib": 100}, "new disk size must be larger than 100 GB"),
        ({"disk_gib": -1}, "new disk size must be larger than 100 GB"),
        ({"disk_gib": 2**22}, "requested disk size (4194304 GB) must be between 1 and 2097152 GB"),
    ],
)
def test_what_cannot_be(asked: dict[str, Any], line: str) -> None:
    with pytest.raises(BadInputError) as caught:
        plan_changes(make_config(), SetRequest(**asked), HOST)
    assert caught.value.line == line


def test_host_that_has_shrunk_forbids_no_other_change() -> None:
    config = make_config(cpus=8, memory_mib=16384)
    assert plan_changes(config, SetRequest(disk_gib=200), HOST).resources.disk_gib == 200


def test_guests_without_usb_get_no_devices() -> None:
    config = make_config(arch=Arch.S390X)
    with pytest.raises(BadInputError) as caught:
        plan_changes(config, SetRequest(usbs=("bus=1,devnum=2",)), HOST)
    assert caught.value.line == "guests of s390x cannot have USB devices; leave out --usb"
    assert plan_changes(config, SetRequest(usbs=("",)), HOST) == config
    changed = plan_changes(make_config(arch=Arch.AARCH64), SetRequest(usbs=("bus=1,devnum=2",)), HOST)
    assert changed.usbs == ("bus=1,devnum=2",)


@pytest.mark.parametrize("keeps_folders", [True, False])
def test_folders_that_a_suspended_guest_has_mounted_cannot_change(tmp_path: Path, *, keeps_folders: bool) -> None:
    paths = save_machine(make_roots(tmp_path), make_record())
    paths.disk.touch()
    paths.memory_in_work.touch()
    hardware = replace(HARDWARE, machine_type="q35", keeps_folders=keeps_folders)
    commit_suspension(
        paths, Suspension(hardware=hardware, qemu="10.0.0", disk=mark_of(paths.disk), suspended=datetime.now(UTC))
    )
    check_keeps_folders(paths, "box", SetRequest(rootful=True))
    for request in (SetRequest(volumes=("/a:/b",)), SetRequest(volume_driver="sshfs")):
        if keeps_folders:
            with pytest.raises(MachineError, match="box is suspended, and its folders were in use then"):
                check_keeps_folders(paths, "box", request)
        else:
            check_keeps_folders(paths, "box", request)
