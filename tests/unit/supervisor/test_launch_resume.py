"""Which saved memories can be loaded."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from machine.errors import MachineError
from machine.folders.transports import MountedFolder
from machine.model.folders import Folder
from machine.model.hardware import Hardware, Suspension
from machine.model.host import Accelerator
from machine.model.obstacle import Obstacle
from machine.model.transport import Transport
from machine.qemu.accelerator import Acceleration
from machine.store.paths import MachinePaths, is_suspended
from machine.store.suspension import (
    commit_suspension,
    drop_suspension,
    is_memory_whole,
    load_hardware,
    load_suspension,
    mark_of,
    save_hardware,
)
from machine.supervisor.launch_resume import check_kept_folders, give_up_hint, load_failure_hint, usable_suspension
from tests.support.builders import make_record, make_roots, save_machine
from tests.support.golden import Golden

KVM = Hardware(
    machine_type="pc-q35-7.2",
    accelerator=Accelerator.KVM,
    cpu="host",
    first_boot=True,
    rekey=False,
    folder_slots=2,
    shared_memory=True,
)
TCG = replace(KVM, accelerator=Accelerator.TCG, cpu="max")
BY_KVM = Acceleration(accelerator=Accelerator.KVM, cpu="host")
BY_TCG = Acceleration(accelerator=Accelerator.TCG, cpu="max", obstacle=Obstacle("/dev/kvm does not exist"))


@pytest.fixture
def paths(tmp_path: Path) -> MachinePaths:
    made = save_machine(make_roots(tmp_path), make_record())
    made.disk.write_bytes(b"disk")
    return made


def suspend(paths: MachinePaths, hardware: Hardware = KVM) -> Suspension:
    paths.memory_in_work.write_bytes(b"memory")
    suspension = Suspension(
        hardware=hardware, qemu="7.2.22", disk=mark_of(paths.disk), suspended=datetime(2026, 11, 26, tzinfo=UTC)
    )
    commit_suspension(paths, suspension)
    committed = load_suspension(paths)
    assert committed
    return committed


def test_what_is_saved_is_read_again(paths: MachinePaths) -> None:
    suspension = suspend(paths)
    assert load_suspension(paths) == suspension
    assert paths.memory.read_bytes() == b"memory"
    save_hardware(paths.hardware, TCG)
    assert load_hardware(paths.hardware) == TCG


def test_machine_is_suspended_while_it_has_a_whole_memory(paths: MachinePaths) -> None:
    paths.memory_in_work.touch()
    paths.suspension.touch()
    assert not is_suspended(paths)
    assert load_suspension(paths) is None
    suspend(paths)
    assert is_suspended(paths)
    drop_suspension(paths)
    assert not is_suspended(paths)
    assert not paths.suspension.exists()
    drop_suspension(paths)


@pytest.mark.parametrize("text", ["", "{}", '{"machine_type": null, "accelerator": "abacus"}'])
def test_hardware_of_an_older_program_is_unknown(text: str, paths: MachinePaths) -> None:
    assert load_hardware(paths.hardware) is None
    paths.hardware.write_text(text)
    assert load_hardware(paths.hardware) is None


@pytest.mark.parametrize(
    ("hardware", "acceleration"), [(KVM, BY_KVM), (TCG, BY_TCG), (TCG, BY_KVM)], ids=["kvm", "tcg", "tcg, now kvm"]
)
def test_memory_that_fits(hardware: Hardware, acceleration: Acceleration, paths: MachinePaths) -> None:
    assert usable_suspension("box", paths, acceleration) is None
    suspension = suspend(paths, hardware)
    assert usable_suspension("box", paths, acceleration) == suspension


@pytest.mark.parametrize(
    ("hardware", "then", "now"),
    [(KVM, None, "Xeon 8"), (KVM, "Xeon 8", None), (KVM, "Xeon 8", "Xeon 8"), (TCG, None, "Xeon 8")],
)
def test_memory_fits_the_cpu_that_it_was_saved_on_or_one_unknown(
    hardware: Hardware, then: str | None, now: str | None, paths: MachinePaths
) -> None:
    suspension = suspend(paths, replace(hardware, host_cpu=then))
    assert usable_suspension("box", paths, replace(BY_KVM, host_cpu=now)) == suspension


def test_memory_that_an_older_program_has_saved_fits_any_cpu(paths: MachinePaths) -> None:
    suspension = suspend(paths)
    document = json.loads(paths.suspension.read_bytes())
    del document["hardware"]["host_cpu"], document["hardware"]["keeps_folders"], document["memory"]
    paths.suspension.write_text(json.dumps(document))
    paths.memory.write_bytes(b"not checked")
    found = usable_suspension("box", paths, replace(BY_KVM, host_cpu="Xeon 8"))
    assert found == replace(suspension, memory=None)


@pytest.mark.parametrize("state", [b"memor", b"memorY", b"another"])
def test_memory_that_is_truncated_changed_or_another_machines_is_refused(state: bytes, paths: MachinePaths) -> None:
    suspend(paths)
    paths.memory.write_bytes(state)
    assert refusal(paths, BY_KVM) == (
        'unable to resume "box": its saved memory is damaged, or another machine\'s\n'
        f"hint: bring back DIRECTORY/{paths.memory.name}; {give_up_hint('box')}"
    )


def test_parts_from_all_over_a_memory_are_looked_at(paths: MachinePaths) -> None:
    content = bytearray(random.Random(1).randbytes(8 * 1024**2))
    paths.memory_in_work.write_bytes(content)
    suspension = Suspension(hardware=KVM, qemu="7.2.22", disk=None, suspended=datetime(2026, 11, 26, tzinfo=UTC))
    commit_suspension(paths, suspension)
    committed = load_suspension(paths)
    assert committed
    assert is_memory_whole(paths, committed)
    content[4 * 1024**2] ^= 1
    paths.memory.write_bytes(content)
    assert not is_memory_whole(paths, committed)


def test_memory_that_was_saved_with_folders_mounted_needs_them(paths: MachinePaths) -> None:
    usable = MountedFolder(
        folder=Folder(source="/a", target="/a"),
        transport=Transport.VIRTIOFS,
        virtiofsd=("/v", "--migration-verify-handles"),
    )
    moved = replace(usable, transport=Transport.SSHFS, virtiofsd=())
    lost = replace(moved, transport=None, problem="the folder /a does not exist on this host")
    suspension = suspend(paths)
    check_kept_folders("box", [usable, moved, lost], suspension)
    suspension = suspend(paths, replace(KVM, keeps_folders=True))
    assert load_suspension(paths) == suspension
    check_kept_folders("box", [usable], suspension)
    told = []
    for folder in (moved, lost):
        with pytest.raises(MachineError) as refused:
            check_kept_folders("box", [usable, folder], suspension)
        told.append(refused.value.message)
        assert refused.value.hint == give_up_hint("box")
    assert told == [
        f'unable to resume "box": /a was in use when its memory was saved, and {reason}'
        for reason in ("this host's virtiofsd cannot take it over now", "the folder /a does not exist on this host")
    ]


def test_memory_that_does_not_fit(paths: MachinePaths, golden: Golden) -> None:
    suspension = suspend(paths)
    told = [refusal(paths, BY_TCG)]
    suspend(paths, replace(KVM, host_cpu="Xeon 8"))
    told.append(refusal(paths, replace(BY_KVM, host_cpu="EPYC 9")))
    paths.disk.write_bytes(b"written by somebody")
    told.append(refusal(paths, BY_KVM))
    paths.disk.unlink()
    told.append(refusal(paths, BY_KVM))
    paths.suspension.write_text("{}")
    told.append(refusal(paths, BY_KVM))
    told.append(load_failure_hint("box", suspension))
    golden.matches("\n".join(told) + "\n")
    assert is_suspended(paths)


def refusal(paths: MachinePaths, acceleration: Acceleration) -> str:
    with pytest.raises(MachineError) as refused:
        usable_suspension("box", paths, acceleration)
    return f"{refused.value.message}\nhint: {refused.value.hint}".replace(str(paths.directory), "DIRECTORY")
