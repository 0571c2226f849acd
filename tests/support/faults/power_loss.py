"""The power loss of the host, as the guest sees it: all processes end in the middle of its writes."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.faults.fault import Cure, Fault
from tests.support.faults.rig import KEPT_FILE, NAME, Rig
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
_BOOT_AFTER = 10
_SECTOR = 512
_WHOLE_BYTES = 2**40
_LEAKS = 3
"""The status of `qemu-img check` for clusters that nothing uses, which are harmless."""

_MENDED = 1
"""The status of `e2fsck -p` for a file system that is sound now, as when its journal was replayed."""


@contextmanager
def power_lost(rig: Rig) -> Iterator[None]:
    """Lose the power again and again, and look into the disk each time. After every tenth time the guest boots.

    In between, the guest continues from the snapshot, which takes seconds.
    """
    for number in range(rig.times):
        if number and number % _BOOT_AFTER == 0:
            rig.world.must("start", NAME)
            assert rig.has_file(NAME), "the guest lost a file that it had synced"
        elif number:
            rig.continue_unsupervised()
        synced = _write_until_the_power_is_lost(rig)
        _check_disk(rig, synced)
        sys.stderr.write(f"Power lost {number + 1} times; all {synced} synced lines are there\n")
    yield


def _write_until_the_power_is_lost(rig: Rig) -> int:
    """Have the guest write lines until all processes are killed; returns the last line that it said was synced."""
    rig.token = os.urandom(8).hex()
    keep = f"echo {rig.token} >{KEPT_FILE} && sync {KEPT_FILE}"
    writer = rig.world.spawn(machine_program(), "ssh", NAME, f"{keep} && perl -e '{_WRITE}'")
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
    """Check the disk's format, the file system after its journal was replayed, and that all synced files are whole."""
    disk = rig.directory / "disk.qcow2"
    _output("qemu-img", "check", "-q", disk, also=_LEAKS)
    with tempfile.TemporaryDirectory(dir=rig.world.root) as scratch:
        root = _root_file_system(disk, Path(scratch))
        _output("/usr/sbin/e2fsck", "-p", root, also=_MENDED)
        _output("/usr/sbin/e2fsck", "-fn", root)
        lines, kept = (_output("/usr/sbin/debugfs", "-R", f"cat {path}", root) for path in (_LINES, KEPT_FILE))
    written = [int(line) for line in lines.split("\n")[:-1]]
    assert written == list(range(1, len(written) + 1)), "the file does not have the lines that were written"
    assert len(written) >= synced, f"{synced} lines were synced, and {len(written)} are there"
    assert kept.strip() == rig.token, "a file that was synced before is not whole"


def _root_file_system(disk: Path, scratch: Path) -> Path:
    """Copy the root file system, which is on the largest partition of a disk, to a file."""
    table, root = scratch / "table.raw", scratch / "root.raw"
    _output("qemu-img", "dd", "-O", "raw", "bs=1M", "count=1", f"if={disk}", f"of={table}")
    os.truncate(table, _WHOLE_BYTES)  # sfdisk believes no table of a larger disk
    partitions = json.loads(_output("/usr/sbin/sfdisk", "-J", table))["partitiontable"]["partitions"]
    largest = max(partitions, key=lambda partition: int(partition["size"]))
    offset, size = (int(largest[key]) * _SECTOR for key in ("start", "size"))
    place = f"driver=raw,offset={offset},size={size},file.driver=qcow2,file.file.driver=file,file.file.filename={disk}"
    _output("qemu-img", "convert", "-O", "raw", "--image-opts", place, root)
    return root


def _output(*words: str | Path, also: int = 0) -> str:
    """Run a program, which may end with 0 or another status, and return its output."""
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode in (0, also), f"{words[0]} ended with {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


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
