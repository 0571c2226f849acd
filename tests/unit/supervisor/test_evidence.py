"""What a guest that does not come up says of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from machine.supervisor.evidence import (
    Failure,
    console_failure,
    console_tail,
    find_failure,
    ignition_failure,
    reached_kernel,
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


def entry(message: object, *, priority: object = "3", identifier: str = "ignition") -> str:
    """One line of `journalctl -o json`."""
    return json.dumps({"MESSAGE": message, "PRIORITY": priority, "SYSLOG_IDENTIFIER": identifier, "_PID": "7"})


def journal(*lines: str) -> str:
    return "\n".join((*lines, "{}", ""))


FAILED = 'CRITICAL : Ignition failed: failed to create users/groups: user "x" is bad'


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (PANIC, "the guest's kernel panicked: VFS: Unable to mount root fs on unknown-block(0,0)"),
        (EMERGENCY, "the guest is in emergency mode"),
        ("Entering emergency mode. Exit the shell to continue.", "the guest is in emergency mode"),
        (SHELL, "its firmware found nothing to boot"),
        ("BdsDxe: No bootable option or device was found.\r\n", "its firmware found nothing to boot"),
        ("E3405: No such device\r\n\r\nE3407: Load failed\r\n", "its firmware found nothing to boot"),
        ("zIPL load failed.\r\nFailed to load OS from hard disk\r\n", "its firmware found nothing to boot"),
        ('BdsDxe: starting Boot0001 "UEFI Misc Device" from PciRoot(0x0)', None),
        ("[ OK ] Reached target Emergency Mode.", None),
        ("Warning: kernel panic is near", None),
        ("", None),
    ],
)
def test_console_tells_of_a_failure(text: str, cause: str | None) -> None:
    assert console_failure(text) == cause


def test_error_of_ignition_wins_over_what_else_it_says() -> None:
    text = journal(entry("op(1): retrying"), entry(FAILED, priority="2"), entry("Full config:"))
    assert ignition_failure(text) == 'Ignition failed: failed to create users/groups: user "x" is bad'


def test_error_is_known_by_its_words_where_ignition_logs_to_standard_output() -> None:
    # Debian's does: journald gives every line the priority 6.
    text = journal(entry("INFO     : files: op(5): [started]", priority="6"), entry(FAILED, priority="6"))
    assert ignition_failure(text) == 'Ignition failed: failed to create users/groups: user "x" is bad'


def test_last_error_is_told_where_none_says_that_ignition_failed() -> None:
    assert ignition_failure(journal(entry("ERROR: first"), entry("EMERGENCY : last"))) == "last"


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
    assert ignition_failure(journal(line)) == "the guest failed before its root file system was up"


def test_journal_wins_over_the_console_and_is_final(tmp_path: Path) -> None:
    serial, dumped = tmp_path / "serial.log", tmp_path / "journal.log"
    assert find_failure(serial, dumped) is None
    serial.write_text(EMERGENCY)
    assert find_failure(serial, dumped) == Failure(cause="the guest is in emergency mode", final=False)
    dumped.write_text(journal(entry(FAILED)))
    assert find_failure(serial, dumped) == Failure(
        cause='Ignition failed: failed to create users/groups: user "x" is bad', final=True
    )


def test_panic_is_final(tmp_path: Path) -> None:
    serial = tmp_path / "serial.log"
    serial.write_text(PANIC)
    failure = find_failure(serial, tmp_path / "nothing")
    assert failure is not None
    assert failure.final


def test_firmware_without_anything_to_boot_is_final(tmp_path: Path) -> None:
    serial = tmp_path / "serial.log"
    serial.write_text(SHELL)
    assert find_failure(serial, tmp_path / "nothing") == Failure(cause="its firmware found nothing to boot", final=True)


@pytest.mark.parametrize(
    ("text", "reached"),
    [
        (SHELL, False),
        ("", False),
        ("SeaBIOS (version 1.16.2)\nBooting from Hard Disk...\n", False),
        ("\x1b[0m\x1b[30;47mWelcome to GRUB!\r\n", True),
        ("EFI stub: Booting Linux Kernel...\r\n", True),
        ("[    0.000000] Booting Linux on physical CPU 0x0000000000 [0x000f0510]\r\n", True),
        ("[    0.000000] Linux version 6.12.0\r\n", True),
        ("[   12.345678] systemd[1]: Detected virtualization qemu.\r\n", True),
        ("[12345.678901] late\r\n", True),
    ],
)
def test_kernel_is_known_by_its_words(text: str, reached: bool, tmp_path: Path) -> None:
    serial = tmp_path / "serial.log"
    serial.write_text(text)
    assert reached_kernel(serial) is reached


def test_kernel_that_has_said_much_since_is_still_known(tmp_path: Path) -> None:
    serial = tmp_path / "serial.log"
    serial.write_text("Linux version 6.12.0\n" + "a service\n" * 100_000)
    assert reached_kernel(serial)
    assert not reached_kernel(tmp_path / "nothing")


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
