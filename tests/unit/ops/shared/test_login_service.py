"""Services on a Mac that a test makes up; those of this host are in tests/integration/test_autostart.py."""

from __future__ import annotations

import os
import plistlib
from dataclasses import replace
from pathlib import Path

import pytest

from machine.errors import MachineError, NotFoundError
from machine.model.host import HostOS
from machine.ops import autostart
from machine.ops.doctor_machines import permissions_checks
from machine.ops.list import list_machines
from machine.ops.shared import login_service
from machine.ops.shared.context import Context
from machine.ops.shared.shutdown import stop_s
from machine.report import SilentReporter
from tests.support.builders import make_context, make_host, make_record, save_machine

PROGRAM = Path("/opt/homebrew/bin/machine")


@pytest.fixture
def mac(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    monkeypatch.setenv("PATH", os.fspath(tmp_path))  # no launchctl on it
    context = replace(make_context(tmp_path, PATH="/opt/homebrew/bin"), host=make_host(HostOS.MACOS, "arm64"))
    save_machine(context.roots, make_record("box"))
    return context


@pytest.fixture
def asked(mac: Context, tmp_path: Path) -> Path:
    """A file with the words that a launchctl on PATH has been given."""
    asked = tmp_path / "asked"
    launchctl = tmp_path / "launchctl"
    launchctl.write_text(f'#!/bin/sh\necho "$@" >>{asked}\n')
    launchctl.chmod(0o755)
    return asked


def test_launch_agent_comes_and_goes(mac: Context, asked: Path) -> None:
    path = login_service.install("box", PROGRAM, mac, SilentReporter())
    assert path == mac.home / "Library/LaunchAgents/org.boot2podman.box.plist"
    said = plistlib.loads(path.read_bytes())
    assert said["ProgramArguments"] == [str(PROGRAM), "start", "--foreground", "--no-info", "box"]
    assert said["ExitTimeOut"] == stop_s(patience=1) == 270
    assert said["EnvironmentVariables"]["PATH"].startswith("/opt/homebrew/bin:/usr/local/bin:")
    assert path.stat().st_mode & 0o777 == 0o600
    assert asked.read_text() == "enable gui/1000/org.boot2podman.box\n"
    assert login_service.installed(mac) == {"box": str(PROGRAM)}
    assert login_service.remove("box", mac)
    assert login_service.installed(mac) == {}
    assert not path.exists()
    assert not login_service.remove("box", mac)


def test_no_service_for_a_machine_that_is_not_there(mac: Context) -> None:
    with pytest.raises(NotFoundError, match=r"^none: VM does not exist$"):
        autostart.enable("none", mac, SilentReporter())
    assert not mac.home.exists()


def test_permissions_that_the_service_needs_are_told_when_it_is_made_and_by_doctor(mac: Context, asked: Path) -> None:
    told: list[str] = []

    class Report(SilentReporter):
        def notice(self, text: str) -> None:
            told.append(text)

    assert permissions_checks(list_machines(mac), mac) == []
    autostart.enable("box", mac, Report())
    assert told == login_service.permissions(make_record("box"), mac)
    assert told[0].endswith("> Local Network")
    assert [check.finding for check in permissions_checks(list_machines(mac), mac)] == told


@pytest.mark.parametrize(("on_demand", "words"), [(False, ""), (True, "--on-demand ")])
def test_host_without_systemd_is_told_what_to_run_instead(mac: Context, on_demand: bool, words: str) -> None:
    linux = replace(mac, host=make_host(HostOS.LINUX, "x86_64"))
    with pytest.raises(MachineError, match=r"^this host has no systemd to start the machine$") as refused:
        autostart.enable("box", linux, SilentReporter(), on_demand=on_demand)
    assert refused.value.hint == f"run this at login by other means: machine start --foreground {words}box"
    assert not login_service.service_file("box", linux).exists()
