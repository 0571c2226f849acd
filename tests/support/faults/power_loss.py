"""The power loss of the host, as the guest sees it: all processes end in the middle of its writes."""

from __future__ import annotations

import json
import random
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.faults.fault import Cure, Fault
from tests.support.faults.rig import NAME, Rig
from tests.support.waiting import wait_until
from tests.support.world import machine_program

_LINES = "/home/core/lines"
# Prints the number of each line when the line is on the disk, and makes a file of each hundred lines.
_WRITE = f"""
use IO::Handle; $| = 1;
open(my $f, ">", "{_LINES}") or die;
for (my $n = 1; ; $n++) {{
    print $f "$n\\n"; $f->flush; $f->sync or die;
    if ($n % 100 == 0) {{ open(my $g, ">", "{_LINES}.new"); close $g; rename("{_LINES}.new", "{_LINES}.$n"); }}
    print "$n\\n";
}}
"""
_WRITES_S = (1.0, 6.0)
_SECTOR = 512
_LEAKS = 3
"""The status of `qemu-img check` for clusters that nothing uses, which are harmless."""


@contextmanager
def power_lost(rig: Rig) -> Iterator[None]:
    """Lose the power again and again, and look into the disk each time. The last time, the guest looks itself."""
    for number in range(rig.times):
        if number:
            rig.restore()
            rig.note()
        synced = _write_until_the_power_is_lost(rig)
        _check_disk(rig, synced)
    yield


def _write_until_the_power_is_lost(rig: Rig) -> int:
    """Have the guest write lines until all processes are killed; returns the last line that it said was synced."""
    writer = rig.world.spawn(machine_program(), "ssh", NAME, "perl", "-e", f"'{_WRITE}'")
    assert writer.stdout is not None
    writer.stdout.readline()
    time.sleep(random.uniform(*_WRITES_S))
    rig.kill_all()
    out, err = writer.communicate(timeout=60)
    wait_until(lambda: rig.state()[0] == "stopped", timeout_s=30, what="the processes to end")
    lines = re.findall(r"^\d+\n", out, re.MULTILINE)  # the last line may be cut off
    assert lines, err
    return int(lines[-1])


def _check_disk(rig: Rig, synced: int) -> None:
    """Check the disk's format, the file system after its journal was replayed, and that all synced lines are there."""
    checked = subprocess.run(["qemu-img", "check", "-q", str(rig.directory / "disk.qcow2")], check=False)
    assert checked.returncode in (0, _LEAKS), f"qemu-img check ended with {checked.returncode}"
    with tempfile.TemporaryDirectory(dir=rig.world.root) as scratch:
        root = _root_file_system(rig.directory / "disk.qcow2", Path(scratch))
        replayed = subprocess.run(["/usr/sbin/e2fsck", "-p", root], check=False, stdout=subprocess.PIPE, text=True)
        assert replayed.returncode in (0, 1), replayed.stdout
        clean = subprocess.run(["/usr/sbin/e2fsck", "-fn", root], check=False, stdout=subprocess.PIPE, text=True)
        assert clean.returncode == 0, clean.stdout
        read = ["/usr/sbin/debugfs", "-R", f"cat {_LINES}", str(root)]
        lines = subprocess.run(read, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    written = [int(line) for line in lines.split("\n")[:-1]]
    assert written == list(range(1, len(written) + 1)), "the file does not have the lines that were written"
    assert len(written) >= synced, f"{synced} lines were synced, and {len(written)} are there"


def _root_file_system(disk: Path, scratch: Path) -> Path:
    """Copy the root file system, which is on the largest partition of a disk, to a file."""
    raw, root = scratch / "disk.raw", scratch / "root.raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", disk, raw], check=True)
    table = json.loads(subprocess.run(["/usr/sbin/sfdisk", "-J", raw], check=True, stdout=subprocess.PIPE).stdout)
    largest = max(table["partitiontable"]["partitions"], key=lambda partition: int(partition["size"]))
    offset, size = (int(largest[key]) * _SECTOR for key in ("start", "size"))
    place = f"driver=raw,offset={offset},size={size},file.driver=file,file.filename={raw}"
    subprocess.run(["qemu-img", "convert", "-O", "raw", "--image-opts", place, root], check=True)
    return root


def file_system_is_sound(rig: Rig) -> Iterator[str]:
    """Ask the guest what its own check of the file system has found at the boot."""
    if "errors" in rig.root("dumpe2fs -h $(findmnt -no SOURCE /) 2>/dev/null | grep 'Filesystem state'"):
        yield "the guest's file system has errors"


POWER_LOSS = (
    Fault(
        name="power-loss",
        provoke=power_lost,
        cure=Cure(lines=(("start", NAME),), within_s=600),
        check=file_system_is_sound,
        reboots=True,
        is_long=True,
    ),
)
