"""Why a guest does not come up: what its serial console and Ignition's own journal say."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from machine.model.console import without_escapes

_TAIL_BYTES = 64 * 1024
_TAIL_LINES = 15


class FailureKind(StrEnum):
    """A way in which a boot fails."""

    NOTHING_TO_BOOT = "nothing to boot"
    KERNEL_PANIC = "kernel panic"
    EMERGENCY_MODE = "emergency mode"
    IGNITION_ERROR = "Ignition error"
    EARLY_FAILURE = "early failure"

    @property
    def is_final(self) -> bool:
        """Nothing more telling can follow; Ignition's journal may follow the console's word of emergency mode."""
        return self is not FailureKind.EMERGENCY_MODE

    @property
    def text(self) -> str:
        """The failure in a few words for people."""
        return {
            FailureKind.NOTHING_TO_BOOT: "its firmware found nothing to boot",
            FailureKind.KERNEL_PANIC: "the guest's kernel panicked",
            FailureKind.EMERGENCY_MODE: "the guest is in emergency mode",
            FailureKind.IGNITION_ERROR: "Ignition failed",
            FailureKind.EARLY_FAILURE: "the guest failed before its root file system was up",
        }[self]


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A failure of the guest's boot."""

    kind: FailureKind

    detail: str | None = None
    """What the guest itself says of it."""

    @property
    def cause(self) -> str:
        """The whole of it for people."""
        if self.kind is FailureKind.IGNITION_ERROR and self.detail:
            return self.detail  # it names Ignition itself
        return f"{self.kind.text}: {self.detail}" if self.detail else self.kind.text


# What a kernel or its loader says first; firmware alone says none of it.
_KERNEL_SIGNS = re.compile(r"Linux version |EFI stub|GRUB|systemd\[1\]|\[ *\d+\.\d+\] ")

_CONSOLE_SIGNS = (
    (re.compile(r"BdsDxe: (?:No bootable option|starting \w+ \"EFI Internal Shell\")"), FailureKind.NOTHING_TO_BOOT),
    # Open Firmware of Power, and the loader of s390x. A BIOS has no words on a serial port.
    (re.compile(r"E3407: Load failed|Failed to load OS from hard disk"), FailureKind.NOTHING_TO_BOOT),
    (re.compile(r"Kernel panic - not syncing: (?P<detail>.+)"), FailureKind.KERNEL_PANIC),
    (re.compile(r"(?:You are in|Entering) emergency (?:mode|shell)"), FailureKind.EMERGENCY_MODE),
)

# The port's last line, when all of the journal has been written (fedora-coreos-config, ignition-virtio-dump-journal).
_JOURNAL_END = "{}"
_SYSLOG_ERROR = 3
_GRAVE = re.compile(r"(?:CRITICAL|ERROR|EMERGENCY|ALERT)\s*:\s*")


class FailureWatch:
    """Looks at a console and Ignition's journal again and again."""

    def __init__(self, serial_log: Path, ignition_journal: Path, *, every_s: float, patience_s: float) -> None:
        self._serial_log = serial_log
        self._ignition_journal = ignition_journal
        self._every_s = every_s
        self._patience_s = patience_s

    async def wait(self, *, wanted: Callable[[], bool]) -> Failure | None:
        """Wait until the guest has told of a failure; None when that is no longer `wanted`.

        One that is not final is believed when nothing more telling has followed for the watch's patience.
        """
        loop = asyncio.get_running_loop()
        first_seen: float | None = None
        while wanted():
            await asyncio.sleep(self._every_s)
            failure = find_failure(self._serial_log, self._ignition_journal)
            if failure is None:
                continue
            first_seen = loop.time() if first_seen is None else first_seen
            if failure.kind.is_final or loop.time() - first_seen > self._patience_s:
                return failure
        return None


def find_failure(serial_log: Path, ignition_journal: Path) -> Failure | None:
    """The failure that the guest has told of, if any; Ignition's own words win over the console's."""
    return ignition_failure(_tail(ignition_journal, None)) or console_failure(without_escapes(_tail(serial_log)))


def console_tail(log: Path) -> list[str]:
    """The last lines of a serial log as a person can read them."""
    lines = [line.rstrip() for line in without_escapes(_tail(log)).split("\n")]
    return [line for line in lines if line][-_TAIL_LINES:]


def reached_kernel(serial_log: Path) -> bool:
    """Whether the console shows more than the firmware's messages; a kernel may be configured to print none."""
    try:
        with serial_log.open("rb") as stream:
            return bool(_KERNEL_SIGNS.search(without_escapes(stream.read(_TAIL_BYTES).decode(errors="replace"))))
    except OSError:
        return False


def console_failure(text: str) -> Failure | None:
    """The failure that a console shows, if any."""
    for pattern, kind in _CONSOLE_SIGNS:
        if found := pattern.search(text):
            detail = found.groupdict().get("detail")
            return Failure(kind=kind, detail=detail.strip() if detail else None)
    return None


def ignition_failure(text: str) -> Failure | None:
    """Ignition's error in a dumped journal (JSON lines closed by `{}`), or None while the dump is not complete."""
    lines = text.splitlines()
    if _JOURNAL_END not in lines:
        return None
    errors = [message for message in map(_error_message, lines) if message]
    last_words = [message for message in errors if "Ignition failed" in message]
    if not errors:
        return Failure(kind=FailureKind.EARLY_FAILURE)
    return Failure(kind=FailureKind.IGNITION_ERROR, detail=(last_words or errors)[-1])


def _error_message(line: str) -> str | None:
    """The message of a journal's line, None where it is no error of Ignition's."""
    try:
        entry = json.loads(line)
        message = entry.get("MESSAGE")
        priority = int(entry.get("PRIORITY", 6))
        identifier = str(entry.get("SYSLOG_IDENTIFIER", ""))
    except (ValueError, TypeError, AttributeError):
        return None
    if not isinstance(message, str) or not identifier.startswith("ignition"):
        return None
    # Where Ignition logs to its standard output, as on Debian, only its words tell how bad it is.
    grave = _GRAVE.match(message)
    if priority > _SYSLOG_ERROR and not grave:
        return None
    return message[grave.end() :] if grave else message


def _tail(path: Path, limit: int | None = _TAIL_BYTES) -> str:
    try:
        with path.open("rb") as stream:
            if limit is not None:
                stream.seek(max(0, path.stat().st_size - limit))
            return stream.read().decode(errors="replace")
    except OSError:
        return ""
