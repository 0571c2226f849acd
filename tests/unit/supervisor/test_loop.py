"""A supervisor's whole life: a real one, with QEMU, the guest and ssh played by the test."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from machine import __version__, control
from machine.control import Command
from machine.errors import GuestError
from machine.files import sha256_of
from machine.folders.server import FolderServer
from machine.folders.transports import MountedFolder
from machine.image import intact
from machine.model.config import FirstBoot, Provisioning, UserIgnition
from machine.model.folders import Folder
from machine.model.host import Accelerator
from machine.model.record import GuestFacts, Pending
from machine.model.state import MachineState, State
from machine.supervisor.events import DeadlinePassed, GuestReset, PauseCause
from machine.supervisor.guest_ssh import GuestSsh
from machine.supervisor.phases import Phase
from tests.support.builders import make_config
from tests.support.fake_machine import INTERVALS, WAIT_S, FakeMachine, fake_machine, until
from tests.support.fake_ssh import FakeSsh

BOOTED = GuestFacts(provisioned=True)

Story = Callable[[FakeMachine], Awaitable[None]]


def play(story: Story, directory: Path, **fields: Any) -> None:
    """Tell a story of a machine that starts, or that is adopted."""

    async def work() -> None:
        async with fake_machine(directory, **fields) as machine:
            await story(machine)

    asyncio.run(work())


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [entry.message for entry in caplog.records if entry.levelno >= logging.ERROR and "machine" in entry.name]


def test_machine_starts_runs_and_stops(ssh: FakeSsh, short_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def story(machine: FakeMachine) -> None:
        await until(lambda: machine.steps)
        assert (await machine.ask(Command.STATUS)) == [
            {"ok": {"state": "starting", "reason": "", "remedy": "", "connected": False, "version": __version__}}
        ]
        await machine.boot()
        await until(lambda: {"ok": {}} in machine.progress)
        assert machine.progress == [
            {"step": "Booting the guest for the first time"},
            {"step": "Waiting for the SSH server"},
            {"step": "Waiting for the Podman API"},
            {"ok": {}},
        ]
        assert machine.record.guest.provisioned
        assert machine.record.guest.last_up is not None
        assert machine.supervisor.record.current == machine.record
        assert (await machine.ask(Command.STATUS)) == [
            {"ok": {"state": "running", "reason": "", "remedy": "", "connected": True, "version": __version__}}
        ]
        assert await machine.ask(Command.STOP) == [
            {"step": "Waiting for VM to exit..."},
            {"ok": {"ending": "powered down"}},
        ]
        assert await machine.end() is None
        assert list(machine.paths.runtime.iterdir()) == []

    play(story, short_path)
    assert errors(caplog) == []


def test_start_says_of_containers_that_they_have_not_been_started(ssh: FakeSsh, short_path: Path) -> None:
    ssh.start_containers("starting web.service", "failed port 80 is taken")

    async def story(machine: FakeMachine) -> None:
        await machine.boot()
        await until(lambda: {"ok": {}} in machine.progress)
        assert machine.progress[-3:-1] == [
            {"notice": "The guest is still starting containers: web.service"},
            {"notice": "The guest could not start a container: port 80 is taken"},
        ]

    play(story, short_path)


def test_guest_of_a_machine_whose_directory_was_removed_is_shut_down(ssh: FakeSsh, short_path: Path) -> None:
    """No command finds the machine any more, so nothing else could end its processes."""

    async def story(machine: FakeMachine) -> None:
        await machine.boot()
        machine.paths.directory.rename(short_path / "removed")  # at once, unlike what rmtree does
        assert await machine.end() is None
        assert "system_powerdown" in machine.qmp.commands
        assert not machine.paths.directory.exists()

    play(story, short_path)


def test_heartbeats_write_nothing_into_the_log(
    ssh: FakeSsh, short_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def story(machine: FakeMachine) -> None:
        await machine.boot()
        await until(lambda: {"ok": {}} in machine.progress)
        before = machine.qmp.commands.count("query-status")
        await until(lambda: machine.qmp.commands.count("query-status") > before)
        written = len(ours(caplog))
        before = machine.qmp.commands.count("query-status")
        await until(lambda: machine.qmp.commands.count("query-status") > before + 5)
        assert ours(caplog)[written:] == []

    play(story, short_path)
    assert "GuestReady(boot_id='boot-1'): phase: boot -> ssh" in ours(caplog)


def ours(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [entry.message for entry in caplog.records if entry.name.startswith("machine.")]


def test_stop_during_a_start_says_so_to_whoever_waits(ssh: FakeSsh, short_path: Path) -> None:
    async def story(machine: FakeMachine) -> None:
        await until(lambda: machine.qmp.commands)
        assert await machine.ask(Command.STOP) == [
            {"step": "Waiting for VM to exit..."},
            {"ok": {"ending": "powered down"}},
        ]
        assert await machine.end() is None
        assert machine.progress[-1]["error"]["message"] == 'unable to start "box": it was stopped'
        assert machine.record.guest.last_up is None

    play(story, short_path, guest=BOOTED)


def test_stop_during_a_first_boot_ends_the_guest_at_once(ssh: FakeSsh, short_path: Path) -> None:
    async def story(machine: FakeMachine) -> None:
        await until(lambda: machine.qmp.commands)
        told = await machine.ask(Command.STOP)
        assert told[0] == {"notice": "The first boot was not complete, so the next start will repeat it"}
        assert told[-1] == {"ok": {"ending": "powered down"}}
        assert "system_powerdown" not in machine.qmp.commands
        assert not machine.record.guest.provisioned

    play(story, short_path)


def test_quit_ends_a_running_guest_at_once(ssh: FakeSsh, short_path: Path) -> None:
    async def story(machine: FakeMachine) -> None:
        machine.qemu.powers_down = False
        await machine.boot()
        await machine.ask(Command.QUIT)
        assert await machine.end() is None
        assert "system_powerdown" not in machine.qmp.commands

    play(story, short_path)


def test_sigterm_stops_the_machine(ssh: FakeSsh, short_path: Path) -> None:
    async def story(machine: FakeMachine) -> None:
        await machine.boot()
        os.kill(os.getpid(), signal.SIGTERM)
        assert await machine.end() is None
        assert "system_powerdown" in machine.qmp.commands

    play(story, short_path)


def test_guest_that_powers_itself_off_ends_the_machine(ssh: FakeSsh, short_path: Path) -> None:
    async def story(machine: FakeMachine) -> None:
        await machine.boot()
        up_at = machine.record.guest.last_up
        machine.qemu.end()
        assert await machine.end() is None
        assert machine.record.guest.last_up != up_at

    play(story, short_path)


def test_start_fails_with_what_the_console_says(ssh: FakeSsh, short_path: Path) -> None:
    async def story(machine: FakeMachine) -> None:
        await until(lambda: machine.supervisor.life.current.phase is Phase.BOOT)
        machine.paths.serial_log.write_text("[ 1.0] one\nKernel panic - not syncing: no root\n")
        error = await machine.end()
        assert error is not None
        assert error.message == 'unable to start "box" in phase boot: the guest\'s kernel panicked: no root'
        assert error.details == (
            "the console's last lines:",
            "  [ 1.0] one",
            "  Kernel panic - not syncing: no root",
            f"the whole console: {machine.paths.serial_log}",
        )
        assert error.hint is None
        assert [line for line in machine.progress if "error" in line] == [machine.progress[-1]]
        assert machine.progress[-1]["error"]["message"] == error.message
        assert "quit" in machine.qmp.commands

    play(story, short_path)


@pytest.fixture
def damaged_base(tmp_path: Path) -> Path:
    """A base image whose content has changed under its size and time of change."""
    image = tmp_path / f"sha256-{'0' * 64}" / "image.qcow2"
    image.parent.mkdir()
    image.write_bytes(b"whole")
    intact.note_intact(image, sha256_of(image))
    before = image.stat()
    image.write_bytes(b"spoil")
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    return image


QUIET_FOR_A_MOMENT = replace(INTERVALS, silent_boot_s=0.05)
CHECKING = "Comparing the base image with its digest"


def test_boot_that_shows_nothing_names_a_damaged_base_image(ssh: FakeSsh, short_path: Path, damaged_base: Path) -> None:
    async def story(machine: FakeMachine) -> None:
        error = await machine.end()
        assert error
        assert error.line == (
            f'unable to start "box": the base image {damaged_base} is damaged; '
            f"fetch it again with: machine image pull {machine.record.config.image.pinned}"
        )
        assert machine.steps[-1] == CHECKING
        assert intact.has_changed(damaged_base)

    play(story, short_path, base=damaged_base, intervals=QUIET_FOR_A_MOMENT)


def test_boot_that_fails_names_a_damaged_base_image(ssh: FakeSsh, short_path: Path, damaged_base: Path) -> None:
    async def story(machine: FakeMachine) -> None:
        await until(lambda: machine.supervisor.life.current.phase is Phase.BOOT)
        machine.paths.serial_log.write_text("[    0.0] Linux version 6\nKernel panic - not syncing: no init\n")
        error = await machine.end()
        assert error
        assert error.message == f'unable to start "box": the base image {damaged_base} is damaged'

    play(story, short_path, base=damaged_base)


def test_boot_from_a_base_image_that_has_changed_names_it_although_the_guest_speaks(
    ssh: FakeSsh, short_path: Path, damaged_base: Path
) -> None:
    os.utime(damaged_base)

    async def story(machine: FakeMachine) -> None:
        machine.paths.serial_log.write_text("[    0.0] Linux version 6\n")
        error = await machine.end()
        assert error
        assert f"the base image {damaged_base} is damaged" in error.message

    play(story, short_path, base=damaged_base)


def test_boot_that_shows_nothing_goes_on_if_its_base_image_is_intact(
    ssh: FakeSsh, short_path: Path, damaged_base: Path
) -> None:
    damaged_base.write_bytes(b"whole")

    async def story(machine: FakeMachine) -> None:
        await until(lambda: CHECKING in machine.steps)
        await machine.boot()

    play(story, short_path, base=damaged_base, intervals=QUIET_FOR_A_MOMENT)


def test_start_fails_with_qemus_last_words(ssh: FakeSsh, short_path: Path) -> None:
    async def story(machine: FakeMachine) -> None:
        machine.qemu.end(1, "no such disk")
        error = await machine.end()
        assert error is not None
        assert "QEMU exited with status 1: no such disk" in error.message

    play(story, short_path)


def test_start_fails_where_qemu_cannot_be_run(ssh: FakeSsh, short_path: Path) -> None:
    async def story(machine: FakeMachine) -> None:
        error = await machine.end()
        assert error is not None
        assert error.message == "/nonexistent/qemu is not installed on this host"
        assert machine.progress[-1]["error"]["message"] == error.message

    play(story, short_path, binary="/nonexistent/qemu")


def test_start_fails_where_cloud_init_says_so(ssh: FakeSsh, short_path: Path) -> None:
    async def story(machine: FakeMachine) -> None:
        await machine.say("failed no mirror answers")
        error = await machine.end()
        assert error is not None
        assert error.message == 'unable to start "box" in phase boot: no mirror answers'
        assert error.hint == "the guest never reached its kernel; is this image for x86_64?"
        assert machine.steps == ["Booting the guest for the first time, which installs Podman if it is missing"]

    play(story, short_path, provisioning=Provisioning.CLOUD_INIT)


ALONE = FirstBoot(ignition=UserIgnition(name="min.ign", text="{}", replaces=True))


def test_guest_with_the_users_config_alone_needs_no_unit_that_reports_ready(ssh: FakeSsh, short_path: Path) -> None:
    """The greeting of its SSH server counts, after a reset too."""

    async def story(machine: FakeMachine) -> None:
        await until(lambda: {"ok": {}} in machine.progress)
        assert machine.record.guest.provisioned
        machine.qmp.emit("RESET")
        await until(lambda: len(ssh.masters) == 2)
        await machine.reach(State.RUNNING)

    play(story, short_path, first_boot=ALONE)


def test_guest_with_the_users_config_alone_that_does_not_let_us_in_can_be_corrected(
    ssh: FakeSsh, short_path: Path
) -> None:
    ssh.refuse("Host key verification failed.")

    async def story(machine: FakeMachine) -> None:
        await until(lambda: "Waiting for the SSH server" in machine.steps)
        machine.supervisor.life.post(DeadlinePassed(phase=Phase.SSH))
        error = await machine.end()
        assert error is not None
        assert error.hint is not None
        assert error.hint.startswith(
            f"{machine.paths.ignition} is all that the guest gets, and it must let root log in"
        )
        # The next start begins with a fresh disk.
        assert not machine.record.guest.provisioned

    play(story, short_path, first_boot=ALONE)


def test_clone_that_has_not_been_rekeyed_hints_at_its_systemd(ssh: FakeSsh, short_path: Path) -> None:
    async def story(machine: FakeMachine) -> None:
        ssh.refuse("Host key verification failed.\n")
        await machine.say("ready boot-1")
        await until(lambda: machine.supervisor.life.current.failures)
        machine.supervisor.life.post(DeadlinePassed(phase=Phase.SSH))
        error = await machine.end()
        assert error is not None
        assert error.message.endswith("(last: SSH connection failed: Host key verification failed.)")
        assert error.hint == "the guest of a clone can get new keys only if it has systemd 256 or later"
        assert machine.record.pending.rekey

    play(story, short_path, guest=BOOTED, pending=Pending(rekey=True))


def test_clone_that_answers_has_been_rekeyed(ssh: FakeSsh, short_path: Path) -> None:
    async def story(machine: FakeMachine) -> None:
        machine.paths.rekey_table.write_text("keys")
        await machine.boot()
        await until(lambda: {"ok": {}} in machine.progress)
        assert not machine.record.pending.rekey
        assert not machine.paths.rekey_table.exists()

    play(story, short_path, guest=BOOTED, pending=Pending(rekey=True))


def test_lost_master_degrades_the_machine_until_there_is_another(ssh: FakeSsh, short_path: Path) -> None:
    async def story(machine: FakeMachine) -> None:
        await machine.boot()
        ssh.refuse("Connection refused\n")
        ssh.kill_master()
        await until(lambda: machine.state.reason == "SSH connection failed: Connection refused")
        assert machine.state.state is State.DEGRADED
        ssh.accept()
        await machine.reach(State.RUNNING)
        assert len(ssh.masters) == 2

    play(story, short_path)


def test_panic_on_the_console_is_told_at_once_and_the_guest_may_reboot(ssh: FakeSsh, short_path: Path) -> None:
    panic = "[  61.5] Kernel panic - not syncing: sysrq triggered crash\r\n"

    async def story(machine: FakeMachine) -> None:
        await machine.boot()
        with machine.paths.serial_log.open("a") as console:
            console.write(panic)
        await until(lambda: machine.state.state is State.DEGRADED)
        assert machine.state.reason == "the guest's kernel panicked: sysrq triggered crash"
        assert not machine.state.connected
        (status,) = await machine.ask(Command.PORT_LIST)
        assert status["ok"]["api"] == {"state": "waiting", "reason": machine.state.reason}
        machine.qmp.emit("RESET")
        await until(lambda: (machine.state.reason or "").startswith("the guest is rebooting, because"))
        with machine.paths.serial_log.open("a") as console:
            console.write("Welcome to GRUB!\r\n")
        await machine.boot()
        assert len(ssh.masters) == 2

    play(story, short_path, intervals=replace(INTERVALS, kernel_s=0.01))


def test_start_tells_the_problem_of_each_folder_once(
    ssh: FakeSsh, short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problems = (None, "no 9p", "no folder", "no 9p")
    folders = [
        MountedFolder(folder=Folder(source="/s", target=f"/{number}"), transport=None, problem=problem)
        for number, problem in enumerate(problems)
    ]
    monkeypatch.setattr(FolderServer, "folders", folders)

    async def story(machine: FakeMachine) -> None:
        await machine.boot()
        await until(lambda: any("ok" in line for line in machine.progress))
        notices = [line["notice"] for line in machine.progress if "notice" in line]
        assert notices == ["No 9p", "No folder"]

    play(story, short_path)


def test_stop_says_that_a_guest_may_hang_in_a_folder(
    ssh: FakeSsh, short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FolderServer, "hangs", True)

    async def story(machine: FakeMachine) -> None:
        await machine.boot()
        assert await machine.ask(Command.STOP) == [
            {"step": "Waiting for VM to exit..."},
            {"notice": "A virtiofsd has ended, so the guest may hang and gets 75 s"},
            {"ok": {"ending": "powered down"}},
        ]

    play(story, short_path)


def test_boot_that_fails_after_the_machine_was_up_is_told(ssh: FakeSsh, short_path: Path) -> None:
    emergency = 'You are in emergency mode. After logging in, type "journalctl -xb" to view system logs.\r\n'

    async def story(machine: FakeMachine) -> None:
        console = machine.paths.serial_log
        await machine.boot()
        console.write_text(emergency)  # of an earlier boot
        machine.qmp.emit("RESET")
        await until(lambda: machine.state.reason == "the guest is rebooting")
        await asyncio.sleep(5 * INTERVALS.heartbeat_s)
        assert machine.state.reason == "the guest is rebooting"
        console.write_text(2 * emergency)
        await until(lambda: machine.state.reason == "the guest is in emergency mode")
        await machine.boot()

    play(story, short_path)


def test_kill_that_the_console_shows_is_told_until_the_guest_has_been_asked(ssh: FakeSsh, short_path: Path) -> None:
    config = make_config()
    ssh.tell(*(f"0: 2 0 00010000 0001 01 3 {socket}" for socket in (config.user_socket, config.root_socket)))
    kill = "[  99.2] Out of memory: Killed process {} (perl) total-vm:1438432kB\r\n"

    async def story(machine: FakeMachine) -> None:
        machine.paths.serial_log.write_text(kill.format(1))  # before this supervisor
        await machine.boot()
        await asyncio.sleep(0.05)
        assert machine.state.state is State.RUNNING
        ssh.refuse()
        with machine.paths.serial_log.open("a") as console:
            console.write(kill.format(2))
        await until(lambda: machine.state.reason == "the guest is out of memory and has killed perl")
        ssh.accept()
        await machine.reach(State.RUNNING)

    play(story, short_path, intervals=replace(INTERVALS, kernel_s=0.01))


def test_panic_that_a_program_shows_on_the_console_of_a_working_guest_is_forgotten(
    ssh: FakeSsh, short_path: Path
) -> None:
    config = make_config()
    ssh.tell(*(f"0: 2 0 00010000 0001 01 3 {socket}" for socket in (config.user_socket, config.root_socket)))

    async def story(machine: FakeMachine) -> None:
        await machine.boot()
        asked = len(ssh.commands)
        machine.paths.serial_log.write_text("Kernel panic - not syncing: yesterday's\n")
        await until(lambda: any(command.startswith("sh -s -- full") for command in ssh.commands[asked:]))
        await machine.reach(State.RUNNING)
        assert len(ssh.masters) == 1

    play(story, short_path, intervals=replace(INTERVALS, kernel_s=0.01))


def test_api_is_asked_until_it_answers(ssh: FakeSsh, short_path: Path) -> None:
    async def story(machine: FakeMachine) -> None:
        ssh.fail_api(True)
        await machine.say("ready boot-1")
        await until(lambda: "503" in (machine.supervisor.life.current.reason or ""))
        assert machine.state.state is State.STARTING
        ssh.fail_api(False)
        await machine.reach(State.RUNNING)

    play(story, short_path)


def test_full_disk_pauses_the_guest_until_there_is_space(ssh: FakeSsh, short_path: Path) -> None:
    async def story(machine: FakeMachine) -> None:
        await machine.boot()
        machine.qemu.status = "io-error"
        machine.qmp.emit("STOP")
        await until(lambda: machine.state.reason)
        assert machine.state == MachineState(state=State.PAUSED, reason=PauseCause.DISK_FULL.reason)
        await until(lambda: "cont" in machine.qmp.commands)
        machine.qemu.status = "running"
        machine.qmp.emit("RESUME")
        await machine.reach(State.RUNNING)
        await until(lambda: not machine.supervisor.life.current.clock_due)
        assert ssh.clocks

    play(story, short_path)


def test_pause_that_somebody_wants_has_no_reason(ssh: FakeSsh, short_path: Path) -> None:
    async def story(machine: FakeMachine) -> None:
        await machine.boot()
        machine.qemu.status = "paused"  # or the next heartbeat finds that it runs
        machine.qmp.emit("STOP")
        await machine.reach(State.PAUSED)
        assert machine.state.reason is None
        assert "cont" not in machine.qmp.commands

    play(story, short_path)


def test_guest_that_reboots_is_degraded_until_it_is_back(ssh: FakeSsh, short_path: Path) -> None:
    async def story(machine: FakeMachine) -> None:
        await machine.boot()
        machine.qmp.emit("RESET")
        await machine.reach(State.DEGRADED)
        assert machine.state.reason == "the guest is rebooting"
        await machine.boot()
        assert len(ssh.masters) == 2

    play(story, short_path)


def test_first_boot_that_reboots_itself_has_its_whole_time_again(ssh: FakeSsh, short_path: Path) -> None:
    async def story(machine: FakeMachine) -> None:
        await until(lambda: machine.supervisor.life.current.phase is Phase.BOOT)
        first = machine.supervisor.deadline
        machine.qmp.emit("RESET")
        await until(lambda: machine.supervisor.life.current.boot_renewals == 1)
        second = machine.supervisor.deadline
        assert first is not None
        assert second is not None
        assert second > first
        await machine.boot()
        await until(lambda: {"ok": {}} in machine.progress)

    play(story, short_path)


def test_firmware_that_resets_again_and_again_ends_the_start_and_names_the_versions(
    ssh: FakeSsh, short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GuestSsh, "await_greeting", lambda _: asyncio.Event().wait())  # no guest gets that far

    async def story(machine: FakeMachine) -> None:
        await until(lambda: machine.supervisor.life.current.phase is Phase.BOOT)
        for _ in range(3):
            machine.supervisor.life.post(GuestReset())
        error = await machine.end()
        assert error is not None
        assert error.message == (
            'unable to start "box" in phase boot: the guest resets itself again and again before it reaches its kernel'
        )
        assert error.hint is not None
        assert "here QEMU 11.1.0 on macOS 26: use another version" in error.hint

    play(story, short_path, hypervisor="QEMU 11.1.0 on macOS 26")


def test_qemu_that_stands_still_degrades_the_machine(ssh: FakeSsh, short_path: Path) -> None:
    async def story(machine: FakeMachine) -> None:
        await machine.boot()
        machine.qmp.running.clear()
        await machine.reach(State.DEGRADED)
        assert machine.state.reason == "QEMU does not answer"
        machine.qmp.running.set()
        await machine.reach(State.RUNNING)

    play(story, short_path)


def test_sockets_that_somebody_removes_are_made_anew(ssh: FakeSsh, short_path: Path) -> None:
    async def story(machine: FakeMachine) -> None:
        await machine.boot()
        for path in (machine.paths.control_socket, machine.paths.podman_socket):
            path.unlink()
        await until(machine.paths.podman_socket.exists)
        await machine.reach(State.RUNNING)
        assert (await machine.ask(Command.STATUS))[-1]["ok"]["state"] == "running"

    play(story, short_path)


def test_guest_is_adopted_and_supervised_to_its_end(ssh: FakeSsh, short_path: Path) -> None:
    async def story(machine: FakeMachine) -> None:
        await machine.reach(State.RUNNING)
        await until(lambda: {"ok": {}} in machine.progress)
        assert machine.steps == ["Waiting for the Podman API"]
        assert await machine.ask(Command.STOP) == [
            {"step": "Waiting for VM to exit..."},
            {"ok": {"ending": "powered down"}},
        ]
        assert await machine.end() is None

    play(story, short_path, adopts=True, guest=BOOTED)


def test_adopted_guest_that_cannot_be_reached_is_kept(ssh: FakeSsh, short_path: Path) -> None:
    async def story(machine: FakeMachine) -> None:
        ssh.refuse("Connection refused\n")
        await until(lambda: machine.supervisor.life.current.failures)
        machine.supervisor.life.post(DeadlinePassed(phase=Phase.SSH))
        await until(lambda: machine.progress)
        assert "timed out waiting for the SSH server" in machine.progress[-1]["error"]["message"]
        ssh.accept()
        await machine.reach(State.RUNNING)
        assert "quit" not in machine.qmp.commands

    play(story, short_path, adopts=True, guest=BOOTED)


def test_adopted_guest_without_a_monitor_is_degraded_and_powers_down_over_ssh(ssh: FakeSsh, short_path: Path) -> None:
    async def story(machine: FakeMachine) -> None:
        await until(lambda: {"ok": {}} in machine.progress)
        problem = "the socket of QEMU's monitor was removed; a restart of the machine makes it anew"
        assert machine.state == MachineState(state=State.DEGRADED, reason=problem)
        assert {"notice": problem[:1].upper() + problem[1:]} in machine.progress
        stopping = asyncio.create_task(machine.ask(Command.STOP))
        await until(lambda: "bash -s --" in ssh.commands)
        machine.qemu.end()
        assert (await stopping)[-1] == {"ok": {"ending": "powered down"}}
        assert await machine.end() is None
        assert machine.qmp.commands == []

    play(story, short_path, adopts=True, has_monitor=False, guest=BOOTED)


def test_stop_of_a_guest_that_a_full_disk_has_stopped_fails_at_once(ssh: FakeSsh, short_path: Path) -> None:
    async def story(machine: FakeMachine) -> None:
        await machine.boot()
        machine.qemu.powers_down = False
        machine.qemu.status = "io-error"
        await machine.reach(State.PAUSED)
        with pytest.raises(GuestError, match="the guest cannot power down, because the host's disk is full"):
            await asyncio.to_thread(control.request, machine.paths.control_socket, Command.STOP, timeout_s=WAIT_S)
        await machine.reach(State.PAUSED)
        assert not {"system_powerdown", "quit"}.intersection(machine.qmp.commands)
        machine.qemu.status = "running"
        machine.qemu.powers_down = True
        machine.qmp.emit("RESUME")
        await machine.reach(State.RUNNING)
        assert (await machine.ask(Command.STOP))[-1] == {"ok": {"ending": "powered down"}}

    play(story, short_path, guest=BOOTED)


def test_start_says_at_once_that_a_full_disk_stops_the_guest(ssh: FakeSsh, short_path: Path) -> None:
    async def story(machine: FakeMachine) -> None:
        machine.qemu.status = "io-error"
        notice = {"notice": f"The guest is paused: {PauseCause.DISK_FULL.reason}"}
        await until(lambda: notice in machine.progress)
        machine.qemu.status = "running"
        machine.qmp.emit("RESUME")
        await machine.boot()
        assert machine.progress.count(notice) == 1

    play(story, short_path)


@pytest.mark.parametrize(
    ("status", "reason"), [("io-error", f": {PauseCause.DISK_FULL.reason}"), ("paused", "")], ids=["full", "paused"]
)
def test_adoption_of_a_guest_that_stands_still_is_refused_at_once(
    status: str, reason: str, ssh: FakeSsh, short_path: Path
) -> None:
    async def story(machine: FakeMachine) -> None:
        machine.qemu.status = status
        ssh.refuse("no route\n")
        await until(lambda: machine.progress)
        assert machine.progress[-1]["error"]["message"].endswith(f"the guest is paused{reason}")
        assert machine.state.state is State.PAUSED
        ssh.accept()
        machine.qemu.status = "running"
        machine.qmp.emit("RESUME")
        await machine.reach(State.RUNNING)

    play(story, short_path, adopts=True, guest=BOOTED)


def test_request_of_a_client_that_has_gone_is_dropped(ssh: FakeSsh, short_path: Path) -> None:
    async def story(machine: FakeMachine) -> None:
        await machine.boot()
        for command in (Command.PORT_ADD, Command.STOP):
            with socket.socket(socket.AF_UNIX) as client:  # all before the supervisor runs again
                client.connect(os.fspath(machine.paths.control_socket))
                client.sendall(control.encode({"command": command, "value": "/h.sock:/g.sock"}))
        answer = await machine.ask(Command.PORT_LIST)
        assert answer[-1]["ok"]["forwards"] == []
        assert machine.state.state is State.RUNNING
        assert machine.record.config.forwards == ()

    play(story, short_path, guest=BOOTED)


def test_defect_of_a_task_leaves_a_guest_that_is_up_its_supervisor(
    ssh: FakeSsh, short_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(machine: FakeMachine) -> None:
        await machine.boot()

        def fail(*_: object, **__: object) -> None:
            raise ModuleNotFoundError("No module named 'machine.x'")

        with monkeypatch.context() as patch:
            patch.setattr(machine.supervisor.folders, "check_sources", fail)
            patch.setattr(machine.supervisor.ports, "on_driver_up", fail)
            patch.setattr(machine.supervisor.ports, "reopen_sockets", fail)
            machine.supervisor.life.post("no event")  # type: ignore[arg-type]
            ssh.kill_master()
            await until(lambda: caplog.text.count("ModuleNotFoundError: No module named") >= 3)
            machine.qmp.hang_up()
            await machine.reach(State.DEGRADED)
        await machine.reach(State.RUNNING)
        assert (await machine.ask(Command.STOP))[-1] == {"ok": {"ending": "powered down"}}
        assert await machine.end() is None

    play(story, short_path, guest=BOOTED)


def test_defect_before_the_machine_is_up_leaves_no_qemu(ssh: FakeSsh, short_path: Path) -> None:
    async def story(machine: FakeMachine) -> None:
        await until(lambda: machine.qmp.commands)
        machine.supervisor.life.post("no event")  # type: ignore[arg-type]
        with pytest.raises(ExceptionGroup):
            await machine.end()
        assert await machine.supervisor.computer.wait() == "QEMU was killed by signal 9"

    play(story, short_path)


@pytest.mark.parametrize("patience", [1, 7])
def test_patience_lengthens_the_deadline_of_a_phase(ssh: FakeSsh, short_path: Path, patience: int) -> None:
    async def deadline_s() -> float:
        async with fake_machine(short_path, patience=patience) as machine:
            await until(lambda: machine.supervisor.deadline)
            supervisor = machine.supervisor
            assert supervisor.deadline is not None
            phase, left_s = supervisor.life.current.phase, supervisor.deadline - asyncio.get_running_loop().time()
            await until(lambda: supervisor.link.client)
            assert supervisor.link.session().patience == patience
            return phase.deadline_s(Accelerator.KVM, patience=patience) - left_s

    assert 0 <= asyncio.run(deadline_s()) < WAIT_S
