"""What a guest that does not come up says of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from machine.supervisor.evidence import (
    BootStage,
    Failure,
    FailureKind,
    FailureWatch,
    boot_stage,
    console_failure,
    console_tail,
    find_failure,
    ignition_failure,
    last_kill,
    panic_message,
)

PANIC = "[    1.2] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\r\n"
EMERGENCY = "You are in emergency mode. After logging in, type ...\r\n"


# AAVMF of Debian 12 before a disk of another architecture.
SHELL = (
    "UEFI firmware (version  built at 13:10:49 on Nov  5 2024)\r\n"
    'BdsDxe: failed to load Boot0001 "UEFI Misc Device" from PciRoot(0x0)/Pci(0x1,0x0): Not Found\r\n'
    'BdsDxe: starting Boot0002 "EFI Internal Shell" from Fv(64074AFE)/FvFile(7C04A583)\r\n'
    "\x1b[2J\x1b[01;01HUEFI Interactive Shell v2.2\r\n"
)


UEFI = "UEFI firmware (version  built at 13:10:49 on Nov  5 2024)\r\n"
STUB = "EFI stub: Booting Linux Kernel...\r\nEFI stub: Exiting boot services...\r\n"


def entry(message: object, *, priority: object = "3", identifier: str = "ignition") -> str:
    """One line of `journalctl -o json`."""
    return json.dumps({"MESSAGE": message, "PRIORITY": priority, "SYSLOG_IDENTIFIER": identifier, "_PID": "7"})


def journal(*lines: str) -> str:
    return "\n".join((*lines, "{}", ""))


IGNITION = Failure(
    kind=FailureKind.IGNITION_ERROR, detail='Ignition failed: failed to create users/groups: user "x" is bad'
)
FAILED = 'CRITICAL : Ignition failed: failed to create users/groups: user "x" is bad'


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (PANIC, "the guest's kernel panicked: VFS: Unable to mount root fs on unknown-block(0,0)"),
        (EMERGENCY, "the guest is in emergency mode"),
        ("Entering emergency mode. Exit the shell to continue.", "the guest is in emergency mode"),
        (
            "\r\nboot2podman: this boot has failed: the root file system cannot be mounted\r\n",
            "the guest failed before its root file system was up: the root file system cannot be mounted",
        ),
        (SHELL, "the firmware found nothing to boot"),
        ("BdsDxe: No bootable option or device was found.\r\n", "the firmware found nothing to boot"),
        ("E3405: No such device\r\n\r\nE3407: Load failed\r\n", "the firmware found nothing to boot"),
        ("zIPL load failed.\r\nFailed to load OS from hard disk\r\n", "the firmware found nothing to boot"),
        ('BdsDxe: starting Boot0001 "UEFI Misc Device" from PciRoot(0x0)', None),
        ("[ OK ] Reached target Emergency Mode.", None),
        ("Warning: kernel panic is near", None),
        ("", None),
    ],
)
def test_console_tells_of_a_failure(text: str, cause: str | None) -> None:
    failure = console_failure(text)
    assert (failure.cause if failure else None) == cause


def test_error_of_ignition_wins_over_what_else_it_says() -> None:
    text = journal(entry("op(1): retrying"), entry(FAILED, priority="2"), entry("Full config:"))
    assert ignition_failure(text) == IGNITION


def test_error_is_known_by_its_words_where_ignition_logs_to_standard_output() -> None:
    # Debian's does: journald gives every line the priority 6.
    text = journal(entry("INFO     : files: op(5): [started]", priority="6"), entry(FAILED, priority="6"))
    assert ignition_failure(text) == IGNITION


def test_last_error_is_told_where_none_says_that_ignition_failed() -> None:
    failure = ignition_failure(journal(entry("ERROR: first"), entry("EMERGENCY : last")))
    assert failure is not None
    assert failure.cause == "last"


def test_journal_that_is_not_complete_tells_nothing_yet() -> None:
    whole = journal(entry(FAILED))
    for length in range(len(whole) - 2):
        assert ignition_failure(whole[:length]) is None


@pytest.mark.parametrize(
    "line",
    [
        entry("all is well", priority="6"),
        entry("all is well", priority=6),
        entry("other", identifier="systemd"),
        entry([1, 2, 3]),
        entry("odd", priority="high"),
        "not json",
        "[1]",
    ],
)
def test_journal_without_an_error_of_ignition_says_that_the_guest_failed_early(line: str) -> None:
    failure = ignition_failure(journal(line))
    assert failure == Failure(kind=FailureKind.EARLY_FAILURE)
    assert failure.cause == "the guest failed before its root file system was up"


def test_journal_wins_over_the_console(tmp_path: Path) -> None:
    serial, dumped = tmp_path / "serial.log", tmp_path / "journal.log"
    assert find_failure(serial, dumped) is None
    serial.write_text(EMERGENCY)
    assert find_failure(serial, dumped) == Failure(kind=FailureKind.EMERGENCY_MODE)
    dumped.write_text(journal(entry(FAILED)))
    assert find_failure(serial, dumped) == IGNITION


def test_panic_that_speaks_of_an_emergency_is_a_panic(tmp_path: Path) -> None:
    serial = tmp_path / "serial.log"
    serial.write_text("Kernel panic - not syncing: emergency restart\r\n")
    assert find_failure(serial, tmp_path / "nothing") == Failure(
        kind=FailureKind.KERNEL_PANIC, detail="emergency restart"
    )


def test_emergency_mode_alone_may_be_followed_by_something_more_telling() -> None:
    assert [kind for kind in FailureKind if not kind.is_final] == [FailureKind.EMERGENCY_MODE]


def watch(
    serial: Path, dumped: Path, *, patience_s: float, wanted: Callable[[], bool] = lambda: True, resets: int = 0
) -> Failure | None:
    watch = FailureWatch(serial, dumped, every_s=0, patience_s=patience_s)
    return asyncio.run(watch.wait(is_needed=wanted, resets=lambda: resets))


def test_watch_takes_emergency_mode_when_nothing_more_telling_follows(tmp_path: Path) -> None:
    serial, dumped = tmp_path / "serial.log", tmp_path / "journal.log"
    serial.write_text(EMERGENCY)
    assert watch(serial, dumped, patience_s=0) == Failure(kind=FailureKind.EMERGENCY_MODE)


def test_watch_waits_for_the_journal_that_follows_emergency_mode(tmp_path: Path) -> None:
    serial, dumped = tmp_path / "serial.log", tmp_path / "journal.log"
    serial.write_text(EMERGENCY)
    looks = iter((False, False, True))

    def wanted() -> bool:
        if next(looks, False):
            dumped.write_text(journal(entry(FAILED)))
        return True

    assert watch(serial, dumped, patience_s=600, wanted=wanted) == IGNITION


def test_watch_ends_when_nobody_waits_for_it(tmp_path: Path) -> None:
    assert watch(tmp_path / "none", tmp_path / "none", patience_s=600, wanted=lambda: False) is None


CRASH = """[  61.5] sysrq: Trigger a crash
[  61.6] Kernel panic - not syncing: sysrq triggered crash
[  61.7] CPU: 0 PID: 612 Comm: sh Not tainted
[  61.8] Kernel Offset: 0x1000 from 0xffffffff81000000
"""
END = "[  61.9] ---[ end Kernel panic - not syncing: sysrq triggered crash ]---\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", None),
        ("box login: ", None),
        (CRASH, "sysrq triggered crash"),
        (CRASH + END, "sysrq triggered crash"),
        (CRASH + "[  61.9] Rebooting in 10 seconds..\n", "sysrq triggered crash"),
        (CRASH + END + "\n[  62.0] Rebooting in 10 seconds..\n\n", "sysrq triggered crash"),
        (CRASH + END + "Welcome to GRUB!\n", None),
        (CRASH + END + "Welcome to GRUB!\n" + CRASH.replace("sysrq", "again"), "again triggered crash"),
    ],
)
def test_panic_with_which_the_console_ends(text: str, message: str | None) -> None:
    assert panic_message(text) == message


@pytest.mark.parametrize(
    ("text", "stage"),
    [
        (SHELL, BootStage.FIRMWARE),
        ("", BootStage.FIRMWARE),
        ("SeaBIOS (version 1.16.2)\nBooting from Hard Disk...\n", BootStage.FIRMWARE),
        ("\x1b[0m\x1b[30;47mWelcome to GRUB!\r\n", BootStage.LOADER),
        (STUB, BootStage.LOADER),
        ("[    0.000000] Booting Linux on physical CPU 0x0000000000 [0x000f0510]\r\n", BootStage.KERNEL),
        (f"{STUB}[    0.000000] Linux version 6.12.0\r\n", BootStage.KERNEL),
        ("[   12.345678] systemd[1]: Detected virtualization qemu.\r\n", BootStage.KERNEL),
        ("[12345.678901] late\r\n", BootStage.KERNEL),
    ],
)
def test_stage_is_known_by_its_words(text: str, stage: BootStage, tmp_path: Path) -> None:
    serial = tmp_path / "serial.log"
    serial.write_text(text)
    assert boot_stage(serial) is stage


def test_kernel_that_has_said_much_since_is_still_known(tmp_path: Path) -> None:
    serial = tmp_path / "serial.log"
    serial.write_text("Linux version 6.12.0\n" + "a service\n" * 100_000)
    assert boot_stage(serial) is BootStage.KERNEL
    assert boot_stage(tmp_path / "nothing") is BootStage.FIRMWARE


@pytest.mark.parametrize(
    ("text", "resets", "fails"),
    [
        (UEFI, 3, True),
        (UEFI, 2, False),
        (STUB, 3, True),
        ("[    0.000000] Linux version 6.12.0\r\n", 3, False),
        ("", 3, True),  # a BIOS prints nothing
        ("", 2, False),
    ],
)
def test_guest_that_resets_itself_again_and_again_before_its_kernel_has_failed(
    text: str, resets: int, fails: bool, tmp_path: Path
) -> None:
    serial = tmp_path / "serial.log"
    serial.write_text(text)
    looks = iter((True, True))
    failure = watch(serial, tmp_path / "none", patience_s=0, wanted=lambda: next(looks, False), resets=resets)
    assert failure == (Failure(kind=FailureKind.RESETS) if fails else None)


def test_escapes_do_not_hide_what_the_console_says(tmp_path: Path) -> None:
    serial = tmp_path / "serial.log"
    serial.write_text("\x1b[0;1;31mYou are in \x1b[0memergency \x1b[1mmode\x1b[0m")
    assert find_failure(serial, tmp_path / "nothing") is not None


@pytest.mark.parametrize(
    ("raw", "lines"),
    [
        ("\x1b[2J\x1b[01;01H\x1b[=3hBooting\r\n", ["Booting"]),
        ("[\x1b[0;32m  OK  \x1b[0m] Started \x1b[0;1;39mssh.service\x1b[0m.\r\n", ["[  OK  ] Started ssh.service."]),
        ("\x1b]0;title\x07login:\n", ["login:"]),
        # Operating system commands may end with ST; what follows them is not theirs.
        ("\x1b]3008;start=1;type=boot\x1b\\one\ntwo \x07three\n", ["one", "two three"]),
        ("10 %\r20 %\r\n", ["10 %", "20 %"]),
        ("a\n\n \n\tb\n", ["a", "\tb"]),
        ("\x1bM\x1b(B\x0fplain\n", ["plain"]),
    ],
)
def test_console_is_shown_as_a_person_can_read_it(raw: str, lines: list[str], tmp_path: Path) -> None:
    log = tmp_path / "serial.log"
    log.write_bytes(raw.encode())
    assert console_tail(log) == lines


def test_command_of_the_terminal_never_swallows_lines_of_the_console(tmp_path: Path) -> None:
    serial = tmp_path / "serial.log"
    serial.write_text(f"\x1b]3008;start=1\x1b\\\n{PANIC}\x1b]0;title\x07")
    assert find_failure(serial, tmp_path / "nothing") is not None


def test_tail_is_the_last_lines_of_a_long_log(tmp_path: Path) -> None:
    log = tmp_path / "serial.log"
    log.write_bytes(b"\xff\n" + b"".join(b"line %d\n" % number for number in range(50_000)))
    assert console_tail(log) == [f"line {number}" for number in range(49_985, 50_000)]


def test_log_that_is_not_there_has_no_lines(tmp_path: Path) -> None:
    assert console_tail(tmp_path / "serial.log") == []


KILL = (
    "[  99.1] perl invoked oom-killer: gfp_mask=0x140cca, order=0, oom_score_adj=1000\n"
    "[  99.2] Out of memory: Killed process 812 (perl) total-vm:1438432kB, oom_score_adj:1000\n"
)


@pytest.mark.parametrize(
    ("text", "program"),
    [
        (KILL, "perl"),
        (f"{KILL}[ 100.0] Out of memory: Killed process 9 (b c) total-vm:1kB\nbox login: ", "b c"),
        ("[ 99.2] Memory cgroup out of memory: Killed process 812 (perl) total-vm:1438432kB\n", None),
        ("box login: ", None),
    ],
)
def test_last_program_that_the_kernel_has_killed(text: str, program: str | None) -> None:
    found = last_kill(text)
    assert (found and found["name"]) == program
