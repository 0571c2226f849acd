"""Faults around the machine on the host: a full disk, damaged files, another version of the program."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from machine import __version__
from tests.support.faults.fault import STOPPED, Ask, Cure, Fault, Shown
from tests.support.faults.rig import NAME, Rig
from tests.support.processes import processes_of
from tests.support.waiting import wait_until

_START = ("start", NAME)
_FULL = "the host's disk is full; the guest resumes when there is space"
_OLDER = "0.0.9"
_CLONE = "copy"


# The host's disk


@contextmanager
def filled(directory: Path, *, but: int) -> Iterator[None]:
    """Meanwhile the disk that holds a directory has only `but` bytes left."""
    hole = directory / "hole"
    with hole.open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, shutil.disk_usage(directory).free - but)
    try:
        yield
    finally:
        hole.unlink()


@contextmanager
def disk_full_under_a_writing_guest(rig: Rig) -> Iterator[None]:
    script = "dd if=/dev/urandom of=big bs=1M count=150 conv=fsync 2>/dev/null; sha256sum <big; sync; sha256sum <big"
    rig.core("rm -f sums")
    with filled(rig.world.machines, but=40 * 1024**2):
        rig.core(f"nohup sh -c '{script}' >sums 2>&1 </dev/null &")
        yield


def what_was_written_is_there(rig: Rig) -> Iterator[str]:
    wait_until(lambda: rig.core("wc -l <sums").strip() == "2", timeout_s=300, what="the guest to write")
    first, second = rig.core("cat sums").splitlines()
    if first != second:
        yield "what the guest wrote while the disk was full is not what it reads"
    rig.core("rm big")
    rig.root("fstrim /")


@contextmanager
def disk_full_under_a_guest_to_adopt(rig: Rig) -> Iterator[None]:
    with disk_full_under_a_writing_guest(rig):
        wait_until(lambda: rig.state() == ("paused", _FULL), timeout_s=120, what="the full disk")
        rig.kill(rig.supervisor)
        yield


@contextmanager
def disk_full_at_a_start(rig: Rig) -> Iterator[None]:
    """Start the machine with hardly any space. The start says so, and succeeds when there is space."""
    rig.world.must("stop", NAME)
    with filled(rig.world.machines, but=512 * 1024):
        start = rig.world.spawn(rig.program, "start", NAME)
        yield
    out, err = start.communicate(timeout=900)
    assert "Only 512KiB are free on the disk that holds" in err, err
    assert start.returncode == 0, out + err


# Records


@contextmanager
def record_damaged(rig: Rig) -> Iterator[None]:
    (rig.directory / "record.json").write_text("{")
    yield


def damage_is_kept(rig: Rig) -> Iterator[str]:
    """Look for the damaged record, which has to stay beside the good one."""
    if (rig.directory / "record.damaged.json").read_text() != "{":
        yield "the damaged record is not kept"


@contextmanager
def record_damaged_without_supervisor(rig: Rig) -> Iterator[None]:
    rig.kill(rig.supervisor)
    with record_damaged(rig):
        yield
    _restore_record(rig)


@contextmanager
def record_damaged_of_a_stopped_machine(rig: Rig) -> Iterator[None]:
    rig.world.must("stop", NAME)
    with record_damaged(rig):
        yield
    _restore_record(rig)


def _restore_record(rig: Rig) -> None:
    """Do what the message about a damaged record advises."""
    shutil.copy2(rig.directory / "record.last-good.json", rig.directory / "record.json")


# Another version of the program


@contextmanager
def program_removed(rig: Rig) -> Iterator[None]:
    """Run the machine by an older installation, which is then removed as by an upgrade."""
    older = rig.world.root / "older"
    program = _install_older(older)
    rig.world.must("stop", NAME)
    rig.start_from_snapshot(*program)
    shutil.rmtree(older)
    rig.note()
    if not rig.publishes():
        raise AssertionError("a port cannot be published after the program was removed")
    rig.kill(rig.master)
    yield


def another_version_stops_it(rig: Rig) -> Iterator[str]:
    stopped = rig.world.must("stop", NAME)
    if stopped.stderr != "Waiting for VM to exit...\n":
        yield f"stop by another version said: {stopped.stderr}"


def _install_older(root: Path) -> tuple[str, ...]:
    """Install a copy of the program with an older version number; returns how to run it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", root], check=True)
    packages = next(root.glob("lib/python*/site-packages"))
    checkout = Path(__file__).parents[3]
    shutil.copytree(checkout / "machine", packages / "machine", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(checkout / "images", packages / "machine" / "_data")
    version = packages / "machine" / "__init__.py"
    version.write_text(version.read_text().replace(__version__, _OLDER))
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return (str(root / "bin" / "python"), "-P", "-c", "from machine.cli.entry import main; main()")


# Images


@contextmanager
def base_image_damaged(rig: Rig) -> Iterator[None]:
    """Overwrite a fifth of the base image, while the guest stands still and cannot read it."""
    rig.monitor("stop")
    with _damaged_base(rig):
        yield
    rig.monitor("cont")


@contextmanager
def base_image_damaged_at_a_start(rig: Rig) -> Iterator[None]:
    rig.world.must("stop", NAME)
    with _damaged_base(rig):
        yield


@contextmanager
def _damaged_base(rig: Rig) -> Iterator[None]:
    base = next(rig.world.cache.glob("sha256-*/image.qcow2"))
    kept = base.with_name("kept.qcow2")
    shutil.copyfile(base, kept)
    shutil.copystat(base, kept)
    try:
        base.chmod(0o600)
        with base.open("r+b") as stream:
            size = base.stat().st_size
            stream.seek(size // 10)
            stream.write(os.urandom(size // 5))
        yield
    finally:
        base.chmod(0o600)
        shutil.copyfile(kept, base)
        shutil.copystat(kept, base)
        kept.unlink()
        rig.world.must("image", "verify")


# Clones


@contextmanager
def clone_interrupted(rig: Rig) -> Iterator[None]:
    with _clone_booting(rig) as start:
        start.send_signal(signal.SIGINT)
    yield


@contextmanager
def clone_killed(rig: Rig) -> Iterator[None]:
    with _clone_booting(rig) as start:
        start.kill()
        rig.kill(*processes_of(rig.world.machines / _CLONE), *processes_of(rig.world.runtime(_CLONE)))
    yield


@contextmanager
def _clone_booting(rig: Rig) -> Iterator[subprocess.Popen[str]]:
    """Make a clone, and start it; the block begins in the middle of its first boot, and has to end the start."""
    world, console = rig.world, rig.world.machines / _CLONE / "serial.log"
    world.must("stop", NAME)
    world.must("clone", NAME, _CLONE)
    start = world.spawn(rig.program, "start", _CLONE)
    wait_until(lambda: console.exists() and console.stat().st_size > 2000, timeout_s=600, what="the kernel to speak")
    yield start
    start.communicate(timeout=60)
    wait_until(lambda: world.state(_CLONE) == ("stopped", ""), timeout_s=60, what="the interrupted clone to stop")


def clone_is_whole(rig: Rig) -> Iterator[str]:
    """Look whether the clone has the files of the original, and an identity of its own. Remove it."""
    if not rig.has_file(_CLONE):
        yield "the clone lacks a file"
    if rig.world.machine("ssh", _CLONE, "hostname").stdout != f"{_CLONE}\n":
        yield "the clone has another name"
    rig.world.must("rm", "--force", _CLONE)


_ON_FULL_DISK = "the host's disk is full"
_VERSION = f"under version {_OLDER} of this program"

HOSTS = (
    Fault(
        name="host's disk full while the guest writes",
        provoke=disk_full_under_a_writing_guest,
        fills_disk=True,
        shown=Shown(state="paused", reason=_FULL, within_s=120),
        asks=(
            Ask(words=("stop", NAME), says="the guest cannot power down, because the host's disk is full"),
            Ask(words=("ssh", NAME, "true"), says="disk is full"),
        ),
        check=what_was_written_is_there,
    ),
    Fault(
        name="host's disk full and the supervisor killed",
        provoke=disk_full_under_a_guest_to_adopt,
        fills_disk=True,
        asks=(Ask(words=_START, says=_ON_FULL_DISK),),
        check=what_was_written_is_there,
        is_long=True,
    ),
    Fault(
        name="host's disk full at a start",
        provoke=disk_full_at_a_start,
        fills_disk=True,
        shown=Shown(state="paused", reason=_FULL, within_s=300),
        reboots=True,
        is_long=True,
    ),
    Fault(name="record damaged", provoke=record_damaged, check=damage_is_kept),
    Fault(
        name="supervisor killed and record damaged",
        provoke=record_damaged_without_supervisor,
        shown=Shown(state="degraded", reason="its record is damaged; its supervisor has ended"),
        asks=(Ask(words=_START, says="restore its last good copy with: cp "),),
        cure=Cure(lines=(_START,)),
    ),
    Fault(
        name="record of the stopped machine damaged",
        provoke=record_damaged_of_a_stopped_machine,
        asks=(
            Ask(words=_START, says="restore its last good copy with: cp "),
            Ask(words=("ls",), says="is damaged", status=0),
        ),
        cure=Cure(lines=(_START,), within_s=600),
        reboots=True,
        is_long=True,
    ),
    Fault(
        name="program removed while the machine runs",
        provoke=program_removed,
        after=Shown(state="running", reason=_VERSION),
        check=another_version_stops_it,
        is_long=True,
    ),
    *(
        Fault(
            name=f"boot of a clone {name}",
            provoke=provoke,
            cure=Cure(lines=(("start", _CLONE),), within_s=900),
            after=STOPPED,
            check=clone_is_whole,
            is_long=True,
        )
        for name, provoke in (("interrupted", clone_interrupted), ("killed", clone_killed))
    ),
    Fault(
        name="base image damaged",
        provoke=base_image_damaged,
        asks=(
            Ask(words=("image", "verify"), says="is damaged; fetch it again with: machine image pull", status=1),
            Ask(words=("doctor",), says="its base image has changed since it was fetched", status=0, within_s=60),
        ),
        is_long=True,
    ),
    Fault(
        name="base image damaged at a start",
        provoke=base_image_damaged_at_a_start,
        asks=(Ask(words=_START, says="is damaged", within_s=600),),
        cure=Cure(lines=(_START,), within_s=600),
        reboots=True,
        is_long=True,
    ),
)
