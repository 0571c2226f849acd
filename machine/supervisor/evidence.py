"""Why a guest does not come up: what its serial console and Ignition's own journal say."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from machine.model.console import without_escapes

_TAIL_BYTES = 64 * 1024
_TAIL_LINES = 15

# What a kernel or its loader says first; firmware alone says none of it.
_KERNEL_SIGNS = re.compile(r"Linux version |EFI stub|GRUB|systemd\[1\]|\[ *\d+\.\d+\] ")

NOTHING_TO_BOOT = "its firmware found nothing to boot"

_CONSOLE_FAILURES = (
    (re.compile(r"BdsDxe: (?:No bootable option|starting \w+ \"(?P<cause>EFI Internal Shell)\")"), NOTHING_TO_BOOT),
    # Open Firmware of Power, and the loader of s390x. A BIOS has no words on a serial port.
    (re.compile(r"(?P<cause>)(?:E3407: Load failed|Failed to load OS from hard disk)"), NOTHING_TO_BOOT),
    (re.compile(r"Kernel panic - not syncing: (?P<cause>.+)"), "the guest's kernel panicked: {cause}"),
    (re.compile(r"(?:You are in|Entering) emergency (?P<cause>mode|shell)"), "the guest is in emergency mode"),
)

# The port's last line, when all of the journal has been written (fedora-coreos-config, ignition-virtio-dump-journal).
_JOURNAL_END = "{}"
_SYSLOG_ERROR = 3
_GRAVE = re.compile(r"(?:CRITICAL|ERROR|EMERGENCY|ALERT)\s*:\s*")


@dataclass(frozen=True, kw_only=True)
class Failure:
    """`final` says that nothing more telling can follow."""

    cause: str
    final: bool


def console_tail(log: Path) -> list[str]:
    """The last lines of a serial log as a person can read them."""
    lines = [line.rstrip() for line in without_escapes(_tail(log)).split("\n")]
    return [line for line in lines if line][-_TAIL_LINES:]


def find_failure(serial_log: Path, ignition_journal: Path) -> Failure | None:
    """The failure that the guest has told of, if any; Ignition's own words win over the console's."""
    cause = ignition_failure(_tail(ignition_journal, None))
    if cause:
        return Failure(cause=cause, final=True)
    cause = console_failure(without_escapes(_tail(serial_log)))
    return Failure(cause=cause, final="emergency" not in cause) if cause else None


def reached_kernel(serial_log: Path) -> bool:
    """Whether the console has more than a firmware's words; a guest may keep its own to itself."""
    try:
        with serial_log.open("rb") as stream:
            return bool(_KERNEL_SIGNS.search(without_escapes(stream.read(_TAIL_BYTES).decode(errors="replace"))))
    except OSError:
        return False


def console_failure(text: str) -> str | None:
    for pattern, message in _CONSOLE_FAILURES:
        found = pattern.search(text)
        if found:
            return message.format(cause=(found["cause"] or "").strip())
    return None


def ignition_failure(text: str) -> str | None:
    """Ignition's error in a dumped journal (JSON lines closed by `{}`), or None while the dump is not whole."""
    lines = text.splitlines()
    if _JOURNAL_END not in lines:
        return None
    errors = [entry for entry in map(_journal_entry, lines) if entry]
    failed = [message for message in errors if "Ignition failed" in message]
    told = (failed or errors)[-1:]
    return told[0] if told else "the guest failed before its root file system was up"


def _journal_entry(line: str) -> str | None:
    """The message of an error of Ignition's."""
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
