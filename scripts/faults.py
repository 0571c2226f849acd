"""Tries all faults of the table in tests/support/faults on one machine, and reports what it showed and lost."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.faults.fault import Fault, Verdict
from tests.support.faults.rig import Rig
from tests.support.faults.table import FAULTS, report
from tests.support.faults.trial import attempt
from tests.support.guest_machines import MainMachine
from tests.support.guests import busybox_archive, make_guest_world, own_disk, publish, served, take_down


@contextmanager
def prepared(times: int) -> Iterator[Rig]:
    """Run a machine of a new world during the block."""
    streams = publish()
    # The same stream under Fedora's name, which the machine takes from a mirror.
    shutil.copyfile(streams / "boot2podman.json", streams / "stable.json")
    world = make_guest_world(streams, os.getuid())
    try:
        with served(streams) as mirror, own_disk(world.machines):
            busybox = world.root / "busybox"
            busybox.mkdir()
            machine = MainMachine(world=world, mirror=mirror, busybox=busybox_archive(Path("/bin/busybox"), busybox))
            machine.import_busybox()
            rig = Rig(world=world, times=times)
            rig.prepare()
            yield rig
            take_down(world)
    finally:
        shutil.rmtree(world.root, ignore_errors=True)


def verdict_of(fault: Fault, rig: Rig) -> Verdict:
    """Try a fault. A trial that fails itself does not hold."""
    if fault.fills_disk and os.getuid() != 0:
        return _untried(fault, "not tried: only root can mount a disk that may be filled")
    try:
        return attempt(fault, rig)
    except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001  (reported)
        traceback.print_exc()
        return _untried(fault, f"the trial failed: {error}")


def _untried(fault: Fault, problem: str) -> Verdict:
    return Verdict(name=fault.name, shown="", shown_after_s=None, cure="", back_after_s=None, problems=(problem,))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    faults = {fault.name: fault for fault in FAULTS}
    parser.add_argument("--only", action="append", choices=faults, metavar="NAME", help="in the order of these words")
    parser.add_argument("--list", action="store_true", help="print the names of all faults")
    parser.add_argument("--times", type=int, default=5, help="how often the power is lost")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(fault.name for fault in FAULTS))
        return
    verdicts = []
    with prepared(arguments.times) as rig:
        for name in arguments.only or faults:
            verdicts.append(verdict_of(faults[name], rig))
            print("\n".join(report(verdicts[-1:], headings=False)), file=sys.stderr, flush=True)
    if arguments.json:
        print(json.dumps([dataclasses.asdict(verdict) for verdict in verdicts], indent=2))
    else:
        print("\n".join(report(verdicts)))
    sys.exit(not all(verdict.holds for verdict in verdicts))


if __name__ == "__main__":
    main()
