"""Services of this host's systemd, as far as one can be asked without a login, and the process that they are."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from machine.model.service import systemd_unit
from machine.ops.start_foreground import attend
from machine.store.names import NO_MACHINES
from tests.support.builders import ODD_SERVICE
from tests.support.disk_images import Images
from tests.support.waiting import wait_until
from tests.support.world import World, machine_program

pytestmark = pytest.mark.linux("systemd is Linux's")


@pytest.fixture
def box(world: World, images: Images) -> World:
    world.link_tool("systemctl")
    world.init("box", images.qcow2)
    return world


def units(world: World) -> Path:
    return world.root / "home" / ".config" / "systemd" / "user"


def listed(world: World) -> list[str]:
    return sorted(str(path.relative_to(units(world))) for path in units(world).rglob("*") if not path.is_dir())


UNIT = "boot2podman-box.service"


def verify(unit: Path, runtime: Path) -> tuple[int, str]:
    """What systemd says of a unit: 0 and nothing where all is well."""
    environment = {**os.environ, "LC_ALL": "C", "XDG_RUNTIME_DIR": os.fspath(runtime)}
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", unit], capture_output=True, text=True, env=environment, check=False
    )
    said = (done.stdout + done.stderr).splitlines()
    return done.returncode, "\n".join(line for line in said if unit.name in line)  # others' units have their own flaws


needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def test_service_comes_and_goes(box: World) -> None:
    enabled = box.machine("autostart", "enable", "box")
    unit = units(box) / UNIT
    assert (enabled.status, enabled.stdout) == (0, f'Machine "box" starts when you log in: {unit}\n')
    assert listed(box) == [UNIT, f"default.target.wants/{UNIT}"]
    link = units(box) / "default.target.wants" / UNIT
    assert link.resolve() == unit
    text = unit.read_text()
    assert f'ExecStart="{machine_program()}" "start" "--foreground" "--no-info" "box"\n' in text
    assert f'Environment="MACHINE_HOME={box.home}"\n' in text
    assert f'Environment="PATH={box.bin}:/usr/local/bin:/usr/bin:' in text
    assert box.machine("autostart", "enable", "box").status == 0
    assert listed(box) == [UNIT, f"default.target.wants/{UNIT}"]
    disabled = box.machine("autostart", "disable", "box")
    assert (disabled.status, disabled.stdout) == (0, 'Machine "box" no longer starts when you log in\n')
    assert listed(box) == []
    again = box.machine("autostart", "disable", "box")
    assert (again.status, again.stdout, again.stderr) == (0, 'Machine "box" does not start when you log in\n', "")


def test_service_that_waits_for_clients_keeps_doing_so_under_a_new_name(box: World) -> None:
    enabled = box.machine("autostart", "enable", "--on-demand", "box")
    unit = units(box) / UNIT
    said = f'Machine "box" waits for its first client from your login on: {unit}\n'
    assert (enabled.status, enabled.stdout) == (0, said)
    box.must("rename", "box", "crate")
    unit = unit.with_name("boot2podman-crate.service")
    assert 'start" "--foreground" "--on-demand" "--no-info" "crate"' in unit.read_text()


def test_service_is_told_what_the_start_of_its_maker_would_be(box: World) -> None:
    proxy = "http://me:secret@proxy.example:3128"
    made = box.machine("autostart", "enable", "box", https_proxy=proxy, MACHINE_HOME=box.home.name)
    assert made.status == 0, made.stderr
    unit = units(box) / UNIT
    text = unit.read_text()
    assert f'Environment="https_proxy={proxy}"\n' in text
    assert f'Environment="MACHINE_HOME={box.home}"\n' in text  # which was told by its last name
    assert unit.stat().st_mode & 0o777 == 0o600  # a password is in it


def test_rest_of_a_service_that_was_removed_by_hand_goes(box: World) -> None:
    assert box.machine("autostart", "enable", "box").status == 0
    (units(box) / UNIT).unlink()
    disabled = box.machine("autostart", "disable", "box")
    assert (disabled.status, disabled.stdout) == (0, 'Machine "box" no longer starts when you log in\n')
    assert listed(box) == []


@needs_systemd
def test_systemd_accepts_the_service(box: World, short_path: Path) -> None:
    assert box.machine("autostart", "enable", "box").status == 0
    assert verify(units(box) / UNIT, short_path) == (0, "")


@needs_systemd
def test_systemd_reads_odd_words_as_they_are_meant(tmp_path: Path) -> None:
    """A program whose path has what means something in a unit is found, and its lack is told."""
    program = tmp_path / "100% my tools, $HOME"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / "odd.service"
    unit.write_text(systemd_unit(replace(ODD_SERVICE, argv=(os.fspath(program), *ODD_SERVICE.argv[1:]))))
    assert verify(unit, tmp_path) == (0, "")
    program.unlink()
    status, said = verify(unit, tmp_path)
    assert status == 1
    assert f"Command {program} is not executable" in said


def test_doctor_knows_a_service_whose_program_has_gone(box: World) -> None:
    """As that of an installation that was followed by another in another place."""

    def told() -> tuple[str, str, str]:
        checks = json.loads(box.machine("doctor", "--format", "json").stdout)
        (check,) = [check for check in checks if check["Name"] == "autostart"]
        return check["Status"], check["Finding"], check["Remedy"]

    assert told() == ("ok", "no machine starts when you log in", "")
    assert box.machine("autostart", "enable", "box").status == 0
    assert told()[0] == "ok"
    assert told()[1].startswith("box starts when ")
    unit = units(box) / UNIT
    unit.write_text(unit.read_text().replace(machine_program(), "/gone/machine"))
    status, finding, remedy = told()
    assert (status, remedy) == ("warning", "machine autostart enable box")
    assert "/gone/machine" in finding
    assert box.machine("autostart", "enable", "box").status == 0
    assert told()[0] == "ok"


def test_service_goes_with_its_machine_and_follows_its_name(box: World) -> None:
    assert box.machine("autostart", "enable", "box").status == 0
    renamed = box.machine("rename", "box", "crate")
    assert renamed.status == 0, renamed.stderr
    unit = "boot2podman-crate.service"
    assert listed(box) == [unit, f"default.target.wants/{unit}"]
    assert (units(box) / unit).read_text().count("crate") == 2
    removed = box.machine("rm", "--force", "crate")
    assert removed.status == 0, removed.stderr
    assert listed(box) == []


def test_no_service_without_a_machine_or_a_systemd(world: World, images: Images) -> None:
    refused = world.machine("autostart", "enable", "none")
    assert refused.status == 125
    assert refused.stderr == f"Error: none: VM does not exist; {NO_MACHINES}\n"
    world.init("box", images.qcow2)
    refused = world.machine("autostart", "enable", "box")
    line = "this host has no systemd to start the machine; "
    hint = "run this at login by other means: machine start --foreground box"
    assert (refused.status, refused.stderr) == (125, f"Error: {line}{hint}\n")
    assert not units(world).exists()


# The foreground


def test_foreground_is_for_one_machine(world: World) -> None:
    for words in (("a", "b"), ("--all",)):
        refused = world.machine("start", "--foreground", *words)
        assert (refused.status, refused.stdout) == (125, "")
        assert refused.stderr == "Error: --foreground takes a single machine; see 'machine start --help'\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_foreground_that_is_interrupted_before_the_machine_is_up_leaves_nothing(
    box: World, number: signal.Signals
) -> None:
    with box.popen("start", "--foreground", "box") as process:
        wait_until(lambda: box.machine("status", "box").stdout == "starting\n", "the start")
        process.send_signal(number)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert box.machine("status", "box").stdout == "stopped\n"


class Foreground:
    """`attend` with processes that stand for supervisors."""

    def __init__(self, *orphaned: bool) -> None:
        self.told: list[str] = []
        self.when_started: Callable[[], None] | None = None
        self.processes: list[subprocess.Popen[bytes]] = []
        self._orphaned = iter(orphaned)

    def begin(self) -> subprocess.Popen[bytes]:
        self.processes.append(subprocess.Popen(["sleep", "60"], start_new_session=True))
        return self.processes[-1]

    def started(self) -> None:
        self.told.append("started")
        if self.when_started:
            threading.Timer(0.3, self.when_started).start()

    def end(self) -> None:
        self.told.append("end")
        self.processes[-1].terminate()

    def run(self) -> None:
        attend(
            self.begin(),
            on_started=self.started,
            orphaned=lambda: next(self._orphaned),
            take_over=self.begin,
            end=self.end,
        )


def test_foreground_stays_until_the_machine_has_stopped() -> None:
    foreground = Foreground(False)
    foreground.when_started = foreground.end
    begun = time.monotonic()
    foreground.run()
    assert time.monotonic() - begun >= 0.3
    assert foreground.told == ["started", "end"]  # the one by the timer
    assert len(foreground.processes) == 1


def test_foreground_takes_a_guest_over_whose_supervisor_has_ended() -> None:
    foreground = Foreground(True, False)

    def kill(number: int) -> None:
        wait_until(lambda: len(foreground.processes) > number, "the process")
        foreground.processes[number].kill()

    def kill_both() -> None:
        kill(0)
        kill(1)

    killer = threading.Thread(target=kill_both)
    killer.start()
    foreground.run()
    killer.join()
    assert len(foreground.processes) == 2
    assert foreground.told == ["started"]


def test_interrupted_foreground_stops_the_machine() -> None:
    foreground = Foreground()
    foreground.when_started = lambda: os.kill(os.getpid(), signal.SIGINT)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        foreground.run()
    finally:
        signal.signal(signal.SIGINT, before)
    assert foreground.told == ["started", "end"]
    assert foreground.processes[0].returncode == -signal.SIGTERM
