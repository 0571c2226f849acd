"""Suspended machines: a real QEMU saves and loads its memory, the guest's script, and what each verb does."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from machine.deadline import Deadline
from machine.errors import MachineError
from machine.ignition import assets
from machine.model.hardware import Hardware, Suspension
from machine.qemu import memory, monitor
from machine.sockets import listens
from machine.store.paths import MachinePaths
from machine.store.suspension import commit_suspension, load_hardware, mark_of
from tests.support.disk_images import Images
from tests.support.golden import Golden
from tests.support.idle_qemu import WAIT_S, prepared, running_qemu
from tests.support.start import HARDWARE
from tests.support.transcripts import refuse, transcript
from tests.support.waiting import wait_until
from tests.support.world import World

CANNOT_MOUNT = 77
# For a start on a busy host.
_START_S = 120


# QEMU


def test_memory_is_loaded_by_a_machine_of_the_same_type(short_path: Path, images: Images) -> None:
    paths = prepared(short_path, images)

    async def save() -> Hardware:
        async with running_qemu(short_path, HARDWARE) as client:
            assert await memory.obstacles(client) == []
            await monitor.execute(client, "stop")
            await memory.save(client, paths.memory, Deadline.after(WAIT_S, "QEMU"))
            assert await monitor.query_status(client) == monitor.STATUS_SAVED
            return replace(HARDWARE, machine_type=await memory.machine_type(client))

    async def load(hardware: Hardware) -> None:
        async with running_qemu(short_path, hardware) as client:
            await memory.load(client, paths.memory)
            assert await memory.machine_type(client) == hardware.machine_type
            await monitor.execute(client, "cont")
            assert await monitor.query_status(client) == monitor.STATUS_RUNNING

    hardware = asyncio.run(save())
    assert hardware.machine_type is not None
    assert hardware.machine_type.startswith("pc-q35-")
    assert paths.memory.stat().st_mode & 0o777 == 0o600
    asyncio.run(load(hardware))


def test_full_disk_leaves_the_guest_as_it_is(short_path: Path, images: Images) -> None:
    prepared(short_path, images)

    async def save() -> None:
        async with running_qemu(short_path, HARDWARE) as client:
            await monitor.execute(client, "stop")
            with pytest.raises(MachineError, match="No space left on device"):
                await memory.save(client, Path("/dev/full"), Deadline.after(WAIT_S, "QEMU"))
            await monitor.execute(client, "cont")
            assert await monitor.query_status(client) == monitor.STATUS_RUNNING

    asyncio.run(save())


# The guest's script

SETUP = """
mount --make-rprivate / && mount --make-rshared / && mkdir -p {work}/one {work}/two &&
mount -t tmpfs folder-1 {work}/one &&
mount -t tmpfs folder-2 {work}/two && mount -t tmpfs run /run || exit {cannot_mount}
"""


def release(work: Path, before: str = "") -> str:
    """What the script says of two folders, and then what is mounted, in a mount namespace of its own."""
    if os.getuid() != 0:
        pytest.skip("only root has a file system of its own to mount in")
    script = work / "release.sh"
    script.write_text(assets.load("files/folders-release.sh"))
    setup = SETUP.format(work=work, cannot_mount=CANNOT_MOUNT)
    run = (
        f"sh {script} folder-1 {work}/one folder-2 {work}/two; awk '$2 ~ \"^{work}/\" {{ print $1, $2 }}' /proc/mounts"
    )
    done = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", f"{setup}{before}\n{run}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_S,
    )
    if done.returncode == CANNOT_MOUNT:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return done.stdout.replace(str(work), "WORK")


def test_folders_give_way_to_empty_ones(short_path: Path) -> None:
    assert release(short_path) == "done\nfolder-1-none WORK/one\nfolder-2-none WORK/two\n"


def test_folder_that_is_not_mounted_is_left_out(short_path: Path) -> None:
    said = release(short_path, before=f"umount {short_path}/one")
    assert said == "done\nfolder-2-none WORK/two\n"


# It has a root directory of its own, and the folder in it.
CONTAINER = """
mkdir WORK/root
unshare --mount --propagation slave sh -ec '
    mount -t tmpfs root WORK/root && mkdir WORK/root/inside WORK/root/old
    mount --bind WORK/two WORK/root/inside && mount --make-private WORK/root/inside
    for name in bin lib lib64 usr; do ln -s old/$name WORK/root/$name; done
    cd WORK/root && pivot_root . old && exec sleep 60' &
sleep 1
"""


def test_folder_in_a_copy_of_the_guests_tree_is_not_in_use(short_path: Path) -> None:
    copy = "unshare --mount --propagation private sleep 60 & sleep 1"
    assert release(short_path, before=copy) == "done\nfolder-1-none WORK/one\nfolder-2-none WORK/two\n"


@pytest.mark.parametrize(
    "use",
    [
        "( cd WORK/two && exec sleep 60 ) & sleep 0.2",
        "touch WORK/two/file; sleep 60 <WORK/two/file & sleep 0.2",
        CONTAINER,
    ],
    ids=["directory", "file", "container"],
)
def test_folder_in_use_keeps_all_folders_mounted_and_is_told_with_its_user(use: str, short_path: Path) -> None:
    held, *rest = release(short_path, before=use.replace("WORK", str(short_path))).splitlines()
    assert held.startswith("held WORK/two sleep, process ")
    assert rest == ["done", "folder-1 WORK/one", "folder-2 WORK/two"]


# The verbs


def test_verbs_on_a_suspended_machine(suspended: World, golden: Golden) -> None:
    assert suspended.state("box") == ("suspended", "")
    for words in (
        ["status", "box"],
        ["suspend", "box"],
        ["set", "--cpus", "1", "box"],
        ["set", "--rootful", "box"],
        ["start", "box"],
        ["ssh", "box", "true"],
        ["stop", "box"],
        ["kill", "box"],
        ["wait", "--for", "suspended", "box"],
        ["port", "add", "box", "45678:80"],
        ["mount", "add", "box", "/usr:/src"],
        ["cp", "/etc/hosts", "box:x"],
        ["clone", "box", "copy"],
        ["protect", "box"],
        ["rm", "--force", "box"],
        ["unprotect", "box"],
        ["rename", "box", "crate"],
        ["status", "crate"],
    ):
        outcome = suspended.machine(*words, MACHINE_ACCEL="tcg")
        golden.matches(transcript(suspended, outcome, *words), " ".join(words))
    assert "Currently suspended" in suspended.must("ls").stdout
    assert suspended.inspect("crate")["Machine"]["State"] == "suspended"


def test_memory_that_cannot_be_loaded_is_kept_until_the_user_gives_it_up(suspended: World) -> None:
    directory = suspended.machines / "box"
    assert suspended.machine("start", "box").status == 125
    assert suspended.state("box") == ("suspended", "")
    with suspended.popen("start", "--cold", "box") as process:
        wait_until(lambda: suspended.state("box")[0] == "starting", timeout_s=_START_S)
        assert not (directory / "memory.state").exists()
        suspended.must("kill", "box")
        process.communicate(timeout=WAIT_S)
    assert suspended.state("box") == ("stopped", "")


LIES = """#!/bin/sh
case "$*" in
    *--version*) echo "QEMU emulator version 99.0.0" ;;
    *pc-q35-*-incoming*) echo "$0: unsupported machine type, use -machine help" >&2; exit 1 ;;
    *) exec {qemu} "$@" ;;
esac
"""


def own_qemu(world: World, script: str) -> str:
    """Return a PATH with a QEMU of the test's own, which is a script that runs the real one."""
    program = world.root / "own" / "qemu-system-x86_64"
    program.parent.mkdir()
    program.write_text(script.format(qemu=shutil.which(program.name, path=world.path)))
    program.chmod(0o755)
    return f"{program.parent}:{world.path}"


def save_memory(world: World, name: str, memory_mib: int) -> MachinePaths:
    """Start a machine whose disk is empty, save its memory as a suspend does, and end it."""
    world.edit_record(
        name, guest={"provisioned": True}, config={"resources": {"cpus": 1, "memory_mib": memory_mib, "disk_gib": 7}}
    )
    paths = MachinePaths(directory=world.machines / name, runtime=(world.machines / name / "run").readlink())

    async def save() -> Hardware:
        async with monitor.connected(paths.qmp_tools_socket, timeout_s=WAIT_S) as client:
            await monitor.execute(client, "stop")
            await memory.save(client, paths.memory_in_work, Deadline.after(WAIT_S, "QEMU"))
            hardware = load_hardware(paths.hardware)
            assert hardware
            return replace(hardware, machine_type=await memory.machine_type(client))

    with world.popen("start", name, MACHINE_ACCEL="tcg") as process:
        wait_until(lambda: listens(paths.qmp_tools_socket), "QEMU", timeout_s=_START_S)
        hardware = asyncio.run(save())
        world.must("kill", name)
        process.communicate(timeout=WAIT_S)
    now = datetime(2026, 11, 26, tzinfo=UTC)
    commit_suspension(paths, Suspension(hardware=hardware, qemu="7.2.0", disk=mark_of(paths.disk), suspended=now))
    return paths


def test_memory_that_is_truncated_or_another_machines_or_of_another_qemu_is_kept(box: World, images: Images) -> None:
    def check_refused(reason: str, remedy: str, **environment: str) -> None:
        before = paths.memory.read_bytes()
        failed = box.machine("start", "box", **{"MACHINE_ACCEL": "tcg", **environment})
        assert failed.status == 125
        assert f'Error: unable to resume "box": {reason}' in failed.stderr
        assert remedy in failed.stderr
        assert failed.stderr.count("machine start --cold box") == 1
        assert (box.state("box"), paths.memory.read_bytes() == before) == (("suspended", ""), True)

    box.init("other", images.qcow2, "--disk-size", "7")
    other = save_memory(box, "other", 256).memory.read_bytes()
    paths = save_memory(box, "box", 256)
    whole = paths.memory.read_bytes()
    for state in (whole[: len(whole) // 2], other):
        paths.memory.write_bytes(state)
        check_refused("its saved memory is damaged, or another machine's", f"bring back {paths.memory}")
    paths.memory.write_bytes(whole)
    check_refused(
        f"QEMU exited with status 1: {box.root}/own/qemu-system-x86_64: unsupported machine type",
        "QEMU 7.2.0 has saved the memory, and a QEMU of that version can load it",
        PATH=own_qemu(box, LIES),
    )
    with box.popen("start", "box", MACHINE_ACCEL="tcg") as process:
        wait_until(lambda: not paths.memory.exists(), "QEMU has loaded the memory", timeout_s=_START_S)
        box.must("kill", "box")
        process.communicate(timeout=WAIT_S)


KILLS = """#!/bin/sh
case "$*" in *-incoming*) kill -9 $PPID ;; esac
exec {qemu} "$@"
"""


def test_supervisor_that_is_killed_before_qemu_has_loaded_the_memory_loses_nothing(box: World) -> None:
    paths = save_memory(box, "box", 256)
    whole = paths.memory.read_bytes()
    killing = own_qemu(box, KILLS)
    assert "its supervisor ended" in box.machine("start", "box", MACHINE_ACCEL="tcg", PATH=killing).stderr
    wait_until(lambda: listens(paths.qmp_tools_socket), "QEMU", timeout_s=_START_S)
    assert box.state("box") == ("degraded", "its supervisor has ended")
    box.must("suspend", "box")
    assert (box.state("box"), paths.memory.read_bytes() == whole) == (("suspended", ""), True)
    box.machine("start", "box", MACHINE_ACCEL="tcg", PATH=killing)
    wait_until(lambda: listens(paths.qmp_tools_socket), "QEMU", timeout_s=_START_S)
    with box.popen("start", "box", MACHINE_ACCEL="tcg") as process:
        wait_until(lambda: not paths.memory.exists(), "QEMU has loaded the memory", timeout_s=_START_S)
        box.must("kill", "box")
        process.communicate(timeout=WAIT_S)


def test_suspended_machine_is_removed_with_its_memory(suspended: World) -> None:
    suspended.must("rm", "--force", "box")
    assert not (suspended.machines / "box").exists()


def test_what_is_not_running_is_not_suspended(box: World, golden: Golden) -> None:
    refuse(golden, box, "suspend", "box", case="box")
    refuse(golden, box, "suspend", "nosuch", case="nosuch")
    assert box.machine("suspend", "--all").status == 0
