"""Find out why a guest does not come up, from its serial console and Ignition's own journal."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from machine.model.console import without_escapes
from machine.supervisor.vitals import OOM_KILL

_TAIL_BYTES = 64 * 1024
_TAIL_LINES = 15


class FailureKind(StrEnum):
    """A kind of failure of a boot."""

    NOTHING_TO_BOOT = "nothing to boot"
    KERNEL_PANIC = "kernel panic"
    EMERGENCY_MODE = "emergency mode"
    IGNITION_ERROR = "Ignition error"
    EARLY_FAILURE = "early failure"
    RESETS = "resets"

    @property
    def is_final(self) -> bool:
        """Whether this failure is the best explanation that can be expected.

        After a failure that is not final, such as emergency mode, the guest may still send Ignition's journal.
        """
        return self is not FailureKind.EMERGENCY_MODE

    @property
    def text(self) -> str:
        """What has failed, in a few words for people."""
        return {
            FailureKind.NOTHING_TO_BOOT: "the firmware found nothing to boot",
            FailureKind.KERNEL_PANIC: "the guest's kernel panicked",
            FailureKind.EMERGENCY_MODE: "the guest is in emergency mode",
            FailureKind.IGNITION_ERROR: "Ignition failed",
            FailureKind.EARLY_FAILURE: "the guest failed before its root file system was up",
            FailureKind.RESETS: "the guest resets itself again and again before it reaches its kernel",
        }[self]


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A failure of the guest's boot."""

    kind: FailureKind

    detail: str | None = None
    """The guest's own error message, if it has printed one."""

    @property
    def cause(self) -> str:
        """The kind of the failure and the guest's message, for people."""
        if self.kind is FailureKind.IGNITION_ERROR and self.detail:
            return self.detail  # a message that names Ignition
        return f"{self.kind.text}: {self.detail}" if self.detail else self.kind.text


class BootStage(StrEnum):
    """How far a guest has come on its way to its kernel, as far as its console shows. Some kernels print nothing."""

    FIRMWARE = "firmware"
    LOADER = "boot loader"
    """GRUB, or the part of a kernel's file that the firmware runs (its EFI stub)."""

    KERNEL = "kernel"


# The words that show a stage, of the last stage first. Firmware prints nothing of the kind.
_STAGES = (
    (BootStage.KERNEL, re.compile(r"Linux version |systemd\[1\]|\[ *\d+\.\d+\] ")),
    (BootStage.LOADER, re.compile(r"EFI stub|GRUB")),
)

# A first boot may reset itself a few times, but it does so in its kernel.
_MAX_EARLY_RESETS = 3

_PANIC = re.compile(r"Kernel panic - not syncing: (?P<detail>.+)")
# What the kernel prints last.
_PANIC_END = re.compile(r"---\[ end Kernel panic")
_REBOOT_NOTICE = re.compile(r"Rebooting in \d+ seconds")

_CONSOLE_SIGNS = (
    (re.compile(r"BdsDxe: (?:No bootable option|starting \w+ \"EFI Internal Shell\")"), FailureKind.NOTHING_TO_BOOT),
    # Open Firmware of Power, and the loader of s390x. A BIOS prints nothing on a serial port.
    (re.compile(r"E3407: Load failed|Failed to load OS from hard disk"), FailureKind.NOTHING_TO_BOOT),
    (_PANIC, FailureKind.KERNEL_PANIC),
    # The small initramfs of our own image.
    (re.compile(r"boot2podman: this boot has failed: (?P<detail>.+)"), FailureKind.EARLY_FAILURE),
    (re.compile(r"(?:You are in|Entering) emergency (?:mode|shell)"), FailureKind.EMERGENCY_MODE),
)

# The last line on the port, after the whole journal (fedora-coreos-config, ignition-virtio-dump-journal).
_JOURNAL_END = "{}"
_SYSLOG_ERROR = 3
_ERROR_PREFIX = re.compile(r"(?:CRITICAL|ERROR|EMERGENCY|ALERT)\s*:\s*")


class FailureWatch:
    """Checks at intervals whether the log of the console or Ignition's journal shows a failure."""

    def __init__(self, serial_log: Path, ignition_journal: Path, *, every_s: float, patience_s: float) -> None:
        self._serial_log = serial_log
        self._ignition_journal = ignition_journal
        self._every_s = every_s
        self._patience_s = patience_s
        self._begin = 0
        """How many bytes of the console's log are older than the present boot."""

    def forget_earlier_boots(self) -> None:
        """From now on, ignore what the console has shown so far, because the guest begins to boot again."""
        with contextlib.suppress(FileNotFoundError):
            self._begin = self._serial_log.stat().st_size

    async def wait(self, *, is_needed: Callable[[], bool], resets: Callable[[], int]) -> Failure | None:
        """Wait until the guest shows a failure, and return it. Return None as soon as `is_needed` returns False.

        A failure that is not final is returned after `patience_s`, unless one that explains more has followed by then.
        `resets` returns how many times the guest has reset itself in this boot.
        """
        loop = asyncio.get_running_loop()
        first_seen: float | None = None
        while is_needed():
            await asyncio.sleep(self._every_s)
            failure = find_failure(self._serial_log, self._ignition_journal, begin=self._begin)
            failure = failure or self._early_resets(resets())
            if failure is None:
                continue
            first_seen = loop.time() if first_seen is None else first_seen
            if failure.kind.is_final or loop.time() - first_seen > self._patience_s:
                return failure
        return None

    def _early_resets(self, count: int) -> Failure | None:
        """Return a failure if the console shows no kernel after many resets. A BIOS shows nothing at all."""
        if count < _MAX_EARLY_RESETS:
            return None
        return None if boot_stage(self._serial_log) is BootStage.KERNEL else Failure(kind=FailureKind.RESETS)


def find_failure(serial_log: Path, ignition_journal: Path, *, begin: int = 0) -> Failure | None:
    """Return the failure that Ignition's journal shows. If it shows none, return the console's, if any.

    The first `begin` bytes of the console's log are not read.
    """
    console = without_escapes(tail(serial_log, begin=begin))
    return ignition_failure(tail(ignition_journal, None)) or console_failure(console)


def console_tail(log: Path) -> list[str]:
    """Return the last lines of a serial log that are not empty, without the escape sequences of terminals."""
    lines = [line.rstrip() for line in without_escapes(tail(log)).split("\n")]
    return [line for line in lines if line][-_TAIL_LINES:]


def boot_stage(serial_log: Path) -> BootStage:
    """Return how far the guest has come, as its console shows."""
    try:
        with serial_log.open("rb") as stream:
            text = without_escapes(stream.read(_TAIL_BYTES).decode(errors="replace"))
    except OSError:
        text = ""
    return next((stage for stage, signs in _STAGES if signs.search(text)), BootStage.FIRMWARE)


def console_failure(text: str) -> Failure | None:
    """Return the failure that the text of a console shows, or None if the text shows no failure."""
    for pattern, kind in _CONSOLE_SIGNS:
        if found := pattern.search(text):
            detail = found.groupdict().get("detail")
            return Failure(kind=kind, detail=detail.strip() if detail else None)
    return None


def panic_message(text: str) -> str | None:
    """Return the message of the kernel's panic with which the text of a console ends.

    Return None if there is no panic, or if other text follows, because the guest then boots again.
    """
    message: str | None = None
    is_over = False
    for line in text.split("\n"):
        if _PANIC_END.search(line):
            is_over = True
        elif found := _PANIC.search(line):
            message, is_over = found["detail"].strip(), False
        elif is_over and line.strip() and not _REBOOT_NOTICE.search(line):
            message = None
    return message


def last_kill(text: str) -> re.Match[str] | None:
    """Return the last line of a console's text in which the kernel says that it has killed a program for its memory."""
    return next((found for line in reversed(text.split("\n")) if (found := OOM_KILL.match(line))), None)


def ignition_failure(text: str) -> Failure | None:
    """Return the failure that Ignition's journal shows, or None if it shows none. The journal is a text of JSON lines.

    Until it has its last line, `{}`, the journal is incomplete, and None is returned.
    """
    lines = text.splitlines()
    if _JOURNAL_END not in lines:
        return None
    errors = [message for message in map(_error_message, lines) if message]
    conclusions = [message for message in errors if "Ignition failed" in message]
    if not errors:
        return Failure(kind=FailureKind.EARLY_FAILURE)
    return Failure(kind=FailureKind.IGNITION_ERROR, detail=(conclusions or errors)[-1])


def _error_message(line: str) -> str | None:
    """Return the message in a line of the journal if the line is an error of Ignition's, else None."""
    try:
        entry = json.loads(line)
        message = entry.get("MESSAGE")
        priority = int(entry.get("PRIORITY", 6))
        identifier = str(entry.get("SYSLOG_IDENTIFIER", ""))
    except (ValueError, TypeError, AttributeError):
        return None
    if not isinstance(message, str) or not identifier.startswith("ignition"):
        return None
    # If Ignition logs to stdout, as on Debian, the severity is part of the message.
    prefix = _ERROR_PREFIX.match(message)
    if priority > _SYSLOG_ERROR and not prefix:
        return None
    return message[prefix.end() :] if prefix else message


def tail(path: Path, limit: int | None = _TAIL_BYTES, *, begin: int = 0) -> str:
    """Return the last `limit` bytes of a file, or the whole file if `limit` is None. The file need not exist.

    The first `begin` bytes are never returned.
    """
    try:
        with path.open("rb") as stream:
            if limit is not None:
                stream.seek(max(begin, path.stat().st_size - limit))
            return stream.read().decode(errors="replace")
    except OSError:
        return ""
