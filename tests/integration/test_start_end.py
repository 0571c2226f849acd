"""The end of a start, after its supervisor has reported that the machine is up; a script plays the supervisor."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from machine.errors import GuestError
from machine.model.record import Pending
from machine.ops import start as start_module
from machine.ops.shared import guest_script
from machine.ops.shared.context import Context
from machine.ops.start import begin
from machine.report import SilentReporter
from machine.store.paths import MachinePaths
from tests.support.builders import make_context, make_record, save_machine
from tests.support.start import held_lock

# It reports success, and ends when its standard input does; it tells whether somebody still reads its report then.
SUPERVISOR = """
import os, select, sys
descriptor = int(sys.argv[1])
os.write(descriptor, b'{"ok": {}}\\n')
sys.stdin.read()
poll = select.poll()
poll.register(descriptor, 0)
print("returned" if poll.poll(0) else "starting")
"""


@dataclass
class Notices(SilentReporter):
    """Keeps the notices."""

    notices: list[str] = field(default_factory=list)

    def notice(self, text: str) -> None:
        self.notices.append(text)


@pytest.fixture
def context(tmp_path: Path) -> Context:
    """One whose machine has something to be told at its start."""
    context = make_context(tmp_path)
    save_machine(context.roots, make_record(pending=Pending(guest_outdated=True)))
    return context


@pytest.fixture(autouse=True)
def supervisor(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The processes that were spawned in the place of supervisors."""
    spawned = []

    def spawn(name: str, options: list[str], report_fd: int, paths: MachinePaths) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", SUPERVISOR, str(report_fd)], pass_fds=(report_fd,),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        os.close(report_fd)
        spawned.append(process)
        return process

    monkeypatch.setattr(start_module, "_spawn", spawn)
    return spawned


def test_start_whose_machine_is_removed_before_it_returns_fails(
    context: Context, supervisor: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = Notices()

    def remove_meanwhile(*_: object, **__: object) -> list[str]:
        supervisor[0].communicate()
        return ["false"]

    monkeypatch.setattr(guest_script, "script_argv", remove_meanwhile)
    with pytest.raises(GuestError) as caught:
        begin("box", context, report)
    assert caught.value.line == 'unable to start "box": another command has stopped or removed it'
    assert report.notices == []


def test_supervisor_sees_when_the_start_has_returned(
    context: Context, supervisor: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = Notices()

    def fail(*_: object, control: Path) -> list[str]:
        assert control == context.roots.machine("box").ssh_control  # so it needs no login of its own
        return ["sh", "-c", "echo it ended. >&2; exit 1"]

    monkeypatch.setattr(guest_script, "script_argv", fail)
    with held_lock(context.roots.machine("box")):
        begin("box", context, report)
    assert supervisor[0].communicate()[0] == b"returned\n"
    assert report.notices[-1] == (
        "The guest's settings could not be updated: sh failed with exit status 1: it ended; the next start tries again"
    )
