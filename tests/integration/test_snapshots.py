"""`machine snapshot` with real disks: what is kept, what returns, what stays, and what an interruption leaves."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from machine import lock
from machine.ops.shared.context import Context, current_context
from machine.ops.shared.restoring import finish_interrupted
from machine.ops.snapshot import create_snapshot, remove_snapshots, restore_snapshot
from machine.qemu.img import QemuImg
from machine.qemu.plan import DISK
from machine.report import SilentReporter
from machine.store.paths import MachinePaths
from machine.store.suspension import drop_suspension, fits_disk, load_suspension
from tests.support.disk_images import Images, qemu_img
from tests.support.free_ports import choose_port
from tests.support.golden import Golden
from tests.support.start import put_to_sleep
from tests.support.transcripts import refuse
from tests.support.waiting import wait_until
from tests.support.world import World

WAIT_S = 30


@pytest.fixture
def box(box: World) -> World:
    """A stopped machine that has booted once."""
    write(box, 1)
    (box.machines / "box" / "efivars.fd").write_bytes(b"first")
    box.edit_record("box", guest={"provisioned": True})
    return box


def paths_of(world: World, name: str = "box") -> MachinePaths:
    directory = world.machines / name
    return MachinePaths(directory=directory, runtime=(directory / "run").readlink())


def disk_io(disk: Path, command: str) -> str:
    return subprocess.run(
        ["qemu-io", "-f", "qcow2", "-c", command, disk], check=False, capture_output=True, text=True
    ).stdout


def write(world: World, pattern: int) -> None:
    """Write to the disk as a guest would."""
    disk_io(world.machines / "box" / "disk.qcow2", f"write -P {pattern} 1G 64k")


def has(world: World, pattern: int, name: str = "box") -> bool:
    return "Pattern verification failed" not in disk_io(
        world.machines / name / "disk.qcow2", f"read -P {pattern} 1G 64k"
    )


def resumes(world: World) -> bytes | None:
    """The memory that the next start would load, if it fits the disk."""
    paths = paths_of(world)
    suspension = load_suspension(paths)
    if suspension is None:
        return None
    assert fits_disk(paths, suspension)
    return paths.memory.read_bytes()


def listed(world: World, name: str = "box") -> list[str]:
    return world.must("snapshot", "ls", "--quiet", name).stdout.split()


def tags(world: World, name: str = "box") -> list[str]:
    return QemuImg().snapshot_tags(world.machines / name / "disk.qcow2")


def check_intact(world: World) -> None:
    """Each snapshot that is listed is complete, and there is nothing else."""
    kept = world.machines / "box" / "snapshots"
    facts = [json.loads(path.read_bytes())["tag"] for path in kept.glob("*/snapshot.json")]
    assert sorted(tags(world)) == sorted(facts)
    assert not list(kept.glob(".*"))
    QemuImg().check(world.machines / "box" / "disk.qcow2")


def test_disk_and_variables_return_and_the_present_state_is_kept(box: World) -> None:
    assert box.must("snapshot", "create", "box").stdout == 'Snapshot "snapshot1" of "box" created\n'
    write(box, 2)
    (box.machines / "box" / "efivars.fd").write_bytes(b"second")
    done = box.must("snapshot", "restore", "--force", "box", "snapshot1")
    assert done.stdout == 'Machine "box" restored to "snapshot1"\nTo start your machine run:\n\n\tmachine start box\n\n'
    assert 'The state of "box" until now is kept as the snapshot "before-restore"' in done.stderr
    assert has(box, 1)
    assert (box.machines / "box" / "efivars.fd").read_bytes() == b"first"
    assert listed(box) == ["snapshot1", "before-restore"]
    assert box.inspect("box")["Machine"]["Snapshots"] == ["before-restore", "snapshot1"]
    box.must("snapshot", "restore", "--force", "--no-keep", "box", "before-restore")
    assert has(box, 2)
    assert (box.machines / "box" / "efivars.fd").read_bytes() == b"second"
    assert listed(box) == ["snapshot1", "before-restore"]
    check_intact(box)


def test_memory_returns_with_the_disk_that_it_fits(box: World) -> None:
    put_to_sleep(box, memory=b"first")
    box.must("snapshot", "create", "box", "asleep")
    assert resumes(box) == b"first"
    drop_suspension(paths_of(box))
    write(box, 2)
    done = box.must("snapshot", "restore", "--force", "box", "asleep")
    assert "To resume your machine run" in done.stdout
    assert (box.state("box"), resumes(box), has(box, 1)) == (("suspended", ""), b"first", True)
    put_to_sleep(box, memory=b"second")
    box.must("snapshot", "restore", "--force", "box", "before-restore")
    assert (box.state("box"), has(box, 2)) == (("stopped", ""), True)
    box.must("snapshot", "restore", "--force", "--no-keep", "box", "before-restore2")
    assert (resumes(box), has(box, 1)) == (b"second", True)
    box.must("snapshot", "rm", "box", "asleep", "before-restore", "before-restore2")
    assert (resumes(box), listed(box)) == (b"second", [])
    check_intact(box)


def test_clients_are_waited_for_as_before_unless_the_state_has_changed(box: World) -> None:
    waits = paths_of(box).waiting_lock
    box.must("snapshot", "create", "box", "stopped")
    put_to_sleep(box, memory=b"first")
    box.must("snapshot", "create", "box", "asleep")
    box.must("suspend", "box")  # it is, but nothing waits for its clients
    assert lock.is_held(waits)
    box.must("snapshot", "restore", "--force", "--no-keep", "box", "stopped")
    assert not lock.is_held(waits)
    box.must("start", "--on-demand", "box")
    for snapshot in ("stopped", "asleep"):
        box.must("snapshot", "restore", "--force", "--no-keep", "box", snapshot)
        assert lock.is_held(waits)
    assert resumes(box) == b"first"


def test_settings_of_the_hardware_return_and_others_stay(box: World) -> None:
    box.must("snapshot", "create", "box", "small")
    box.must("set", "--disk-size", "9", "--cpus", "2", "--memory", "1024", "box")
    port = choose_port()
    box.must("port", "add", "box", f"{port}:80")
    box.must("protect", "box")
    box.edit_record("box", guest={"followed": "later"})
    box.must("snapshot", "restore", "--force", "box", "small")
    record = box.record("box")
    assert record["config"]["resources"]["disk_gib"] == 7
    assert QemuImg().virtual_size(box.machines / "box" / "disk.qcow2") == 7 * 1024**3
    assert (record["config"]["protected"], record["config"]["forwards"]) == (True, [f"127.0.0.1:{port}:80/tcp"])
    assert (record["guest"]["followed"], record["pending"]["guest_outdated"]) == (None, True)
    box.must("snapshot", "restore", "--force", "box", "before-restore")
    assert QemuImg().virtual_size(box.machines / "box" / "disk.qcow2") == 9 * 1024**3
    assert box.record("box")["config"]["resources"]["memory_mib"] == 1024


def test_snapshots_are_removed_in_any_order_and_their_space_is_given_back(box: World) -> None:
    disk = box.machines / "box" / "disk.qcow2"
    for number in (1, 2, 3):
        box.must("snapshot", "create", "box")
        disk_io(disk, f"write -P {number + 1} 1G 64M")
    full = disk.stat().st_blocks
    assert box.must("snapshot", "rm", "box", "snapshot2").stdout == "snapshot2\n"
    box.must("snapshot", "rm", "box", "snapshot1", "snapshot3")
    assert (has(box, 4), listed(box)) == (True, [])
    assert disk.stat().st_blocks < full / 2
    assert box.must("snapshot", "create", "--quiet", "box").stdout == "snapshot1\n"
    check_intact(box)


def test_clone_of_a_snapshot_and_of_a_machine_with_snapshots(box: World) -> None:
    box.must("snapshot", "create", "box", "small")
    write(box, 2)
    box.must("set", "--disk-size", "9", "box")
    before = box.files()
    box.must("clone", "--snapshot", "small", "box", "then")
    box.must("clone", "box", "now")
    assert {path: content for path, content in box.files().items() if "machines/box/" in path} == {
        path: content for path, content in before.items() if "machines/box/" in path
    }
    for name, pattern, size_gib in (("then", 1, 7), ("now", 2, 9)):
        disk = box.machines / name / "disk.qcow2"
        assert (has(box, pattern, name), tags(box, name), listed(box, name)) == (True, [], [])
        assert QemuImg().virtual_size(disk) == size_gib * 1024**3
        assert box.record(name)["config"]["resources"]["disk_gib"] == size_gib
        assert QemuImg().backing_file(disk) == QemuImg().backing_file(box.machines / "box" / "disk.qcow2")
    box.must("rm", "--force", "box")
    assert has(box, 1, "then")
    assert "identical" in qemu_img("compare", *(box.machines / name / "disk.qcow2" for name in ("then", "then")))


def test_rename_and_rm_take_snapshots_along(box: World) -> None:
    box.must("snapshot", "create", "box", "small")
    write(box, 2)
    box.must("rename", "box", "crate")
    box.must("snapshot", "restore", "--force", "crate", "small")
    assert (has(box, 1, "crate"), box.record("crate")["config"]["name"]) == (True, "crate")
    assert f"{box.machines}/crate/snapshots\n" in box.machine("rm", "crate", stdin="n\n").stdout
    box.must("rm", "--force", "crate")
    assert not (box.machines / "crate").exists()


def test_snapshot_of_a_running_machine_is_removed_from_its_disk(box: World) -> None:
    box.must("snapshot", "create", "box", "small")
    box.must("snapshot", "create", "box", "other")
    paths = paths_of(box)
    paths.runtime.mkdir(parents=True, exist_ok=True)
    argv = [
        "qemu-system-x86_64", "-M", "none", "-display", "none", "-nodefaults",
        "-drive", f"if=none,id={DISK},format=qcow2,discard=unmap,file={paths.disk}",
        "-qmp", f"unix:{paths.qmp_tools_socket},server=on,wait=off",
    ]  # fmt: skip
    with lock.held(paths.lock) as free, subprocess.Popen(argv) as qemu:
        assert free
        try:
            wait_until(paths.qmp_tools_socket.exists, timeout_s=WAIT_S)
            box.must("snapshot", "rm", "box", "small")
            assert (listed(box), len(tags(box))) == (["other"], 1)
        finally:
            qemu.kill()
    check_intact(box)


def test_snapshot_that_a_running_machine_cannot_remove_is_removed_later(box: World) -> None:
    box.must("snapshot", "create", "box", "small")
    with lock.held(paths_of(box).lock):
        assert box.must("snapshot", "rm", "box", "small").stderr == ""
    assert (listed(box), len(tags(box))) == ([], 1)
    box.must("snapshot", "create", "box")
    check_intact(box)


def test_what_does_not_fit_any_more_is_refused(box: World, golden: Golden) -> None:
    put_to_sleep(box, memory=b"first")
    box.must("snapshot", "create", "box", "asleep")
    write(box, 2)
    refuse(golden, box, "snapshot", "create", "box", case="memory that the disk does not fit")
    refuse(golden, box, "snapshot", "restore", "-f", "box", "asleep", case="nothing is lost by a restore")
    QemuImg().delete_snapshot(box.machines / "box" / "disk.qcow2", tags(box)[0])
    refuse(golden, box, "snapshot", "restore", "box", "asleep", case="tag removed by another program")
    refuse(golden, box, "clone", "--snapshot", "asleep", "box", "twin", case="clone of it")
    with lock.held(paths_of(box).lock):
        refuse(golden, box, "clone", "--snapshot", "asleep", "box", "twin", case="running")


def test_machine_whose_files_are_damaged_is_told_by_name_with_a_way_out(box: World, golden: Golden) -> None:
    box.must("snapshot", "create", "box", "stopped")
    put_to_sleep(box, memory=b"first")
    paths = paths_of(box)
    paths.suspension.write_text("{}")
    refuse(golden, box, "snapshot", "create", "box", case="damaged facts")
    refuse(golden, box, "snapshot", "restore", "-f", "box", "stopped", case="restore with damaged facts")
    paths.disk.unlink()
    refuse(golden, box, "snapshot", "create", "box", case="no disk")
    refuse(golden, box, "snapshot", "restore", "-f", "box", "stopped", case="restore without a disk")
    drop_suspension(paths)
    refuse(golden, box, "snapshot", "create", "box", case="no disk, stopped")


def test_full_disk_is_known_before(world: World, images: Images) -> None:
    world.machines.mkdir(parents=True, mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", "size=40m,mode=0700", "small", str(world.machines)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("no tmpfs can be mounted here")
    try:
        world.init("box", images.qcow2)
        world.edit_record("box", guest={"provisioned": True})
        world.must("snapshot", "create", "box", "small")
        (world.machines / "hole").write_bytes(bytes(20 * 1024**2))
        refused = world.machine("snapshot", "create", "box")
        assert "Error: a snapshot takes up to 32MiB at first, but only " in refused.stderr
        assert refused.status == world.machine("snapshot", "restore", "-f", "box", "small").status == 125
        assert listed(world) == ["small"]
        world.must("snapshot", "rm", "box", "small")
        check_intact(world)
    finally:
        subprocess.run(["umount", "--lazy", world.machines], check=True)


# Interruptions


def killed_at(world: World, number: int, work: Callable[[Context], object]) -> bool:
    """Do the work in a process that is killed before its change number `number`. Return whether it came that far."""
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            os.environ.update(world.environment)
            changes = count()

            def audit(event: str, arguments: tuple[object, ...]) -> None:
                writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
                if (writes or event in _CHANGES) and next(changes) == number:
                    os.kill(os.getpid(), signal.SIGKILL)

            context = current_context()
            sys.addaudithook(audit)
            work(context)
            os._exit(0)
        os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


_CHANGES = {"os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "subprocess.Popen"}


def each_kill(world: World, work: Callable[[Context], object]) -> Iterator[int]:
    """Do the work again and again on the same machine. Each time, kill it one change later, and yield the number."""
    directory, copy = world.machines / "box", world.root / "copy"
    shutil.copytree(directory, copy, symlinks=True)
    for number in count():
        shutil.rmtree(directory)
        shutil.copytree(copy, directory, symlinks=True)
        if not killed_at(world, number, work):
            return
        yield number


def state_of(world: World) -> tuple[object, ...]:
    """What a snapshot keeps of the machine."""
    record = world.record("box")
    return (
        "old" if has(world, 1) else "new",
        (world.machines / "box" / "efivars.fd").read_bytes(),
        resumes(world),
        record["config"]["resources"]["cpus"],
        record["guest"]["followed"],
    )


def test_creation_that_is_killed_leaves_a_whole_snapshot_or_none(box: World) -> None:
    put_to_sleep(box, memory=b"first")
    number = 0
    for number in each_kill(box, lambda c: create_snapshot("box", "small", None, c, SilentReporter())):
        assert resumes(box) == b"first"
        assert (box.state("box"), listed(box) in ([], ["small"])) == (("suspended", ""), True), number
        if number % 4 == 0:
            box.must("snapshot", "create", "box", "next")
            assert resumes(box) == b"first"
            check_intact(box)
    assert number > 15
    assert (resumes(box), listed(box)) == (b"first", ["small"])
    check_intact(box)


def test_restore_that_is_killed_leaves_the_old_state_or_is_finished(box: World) -> None:
    box.edit_record("box", config={"resources": {"cpus": 1, "memory_mib": 512, "disk_gib": 7}})
    put_to_sleep(box, memory=b"old")
    box.must("snapshot", "create", "box", "small")
    drop_suspension(paths_of(box))
    write(box, 2)
    put_to_sleep(box, memory=b"new")
    (box.machines / "box" / "efivars.fd").write_bytes(b"second")
    box.edit_record(
        "box", guest={"followed": "later"}, config={"resources": {"cpus": 2, "memory_mib": 512, "disk_gib": 7}}
    )
    old, new = ("old", b"first", b"old", 1, None), ("new", b"second", b"new", 2, "later")
    assert state_of(box) == new
    seen = []
    for number in each_kill(box, lambda c: restore_snapshot("box", "small", c, SilentReporter(), keep=True)):
        is_begun = box.record("box")["pending"]["restoring"] == "small"
        finish_interrupted_of(box)
        assert state_of(box) == (old if is_begun or state_of(box) == old else new), number
        seen.append(state_of(box))
        if seen[-1] == old:
            assert set(listed(box)) == {"small", "before-restore"}
        if number % 8 == 0:
            box.must("snapshot", "create", "box", "next")
            check_intact(box)
    assert seen == sorted(seen, key=lambda state: state == old)
    assert (new in seen, seen[-1], state_of(box)) == (True, old, old)
    check_intact(box)


def finish_interrupted_of(world: World) -> None:
    assert not killed_at(world, 10**6, lambda context: finish_interrupted("box", context, SilentReporter()))


def test_removal_that_is_killed_leaves_nothing_behind_for_long(box: World) -> None:
    put_to_sleep(box, memory=b"first")
    box.must("snapshot", "create", "box", "small")
    box.must("snapshot", "create", "box", "large")
    for number in each_kill(box, lambda c: remove_snapshots("box", ["small"], c, SilentReporter())):
        assert (resumes(box), listed(box) in (["large"], ["small", "large"])) == (b"first", True), number
        box.must("snapshot", "create", "box", "next")
        assert resumes(box) == b"first"
        check_intact(box)


def test_disk_survives_a_killed_qemu_img(box: World) -> None:
    disk = box.machines / "box" / "disk.qcow2"
    qemu_img("create", "-f", "qcow2", "-o", "preallocation=metadata", disk, "200G")
    write(box, 1)
    box.must("snapshot", "create", "box", "small")
    tag = tags(box)[0]
    for number in range(12):
        for words in (["-c", f"machine-{number}"], ["-a", tag], ["-d", f"machine-{number}"]):
            with subprocess.Popen(["qemu-img", "snapshot", *words, disk], stderr=subprocess.DEVNULL) as process:
                time.sleep(random.uniform(0.01, 0.25))
                process.kill()
            assert has(box, 1)
    box.must("snapshot", "restore", "--force", "box", "small")
    assert has(box, 1)
    check_intact(box)


def test_names_are_completed(box: World) -> None:
    box.must("snapshot", "create", "box", "clean")
    box.must("snapshot", "create", "box", "other")
    for verb, words in (("restore", ["clean", "other"]), ("rm", ["clean", "other"])):
        line = {"_MACHINE_COMPLETE": "bash_complete", "COMP_WORDS": f"machine snapshot {verb} box ", "COMP_CWORD": "4"}
        assert box.machine(**line).stdout.split() == [f"plain,{word}" for word in words]
    nothing = {"_MACHINE_COMPLETE": "bash_complete", "COMP_WORDS": "machine snapshot rm nosuch ", "COMP_CWORD": "4"}
    assert box.machine(**nothing).stdout.split() == []
