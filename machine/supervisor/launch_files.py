"""Check the files of a machine that a start needs, before QEMU runs, and mend those that can be mended."""

from __future__ import annotations

import os
import stat
from enum import StrEnum
from pathlib import Path

from machine.errors import MachineError, Page
from machine.files import FILE_PRIVATE, disk_errors, write_atomic
from machine.model.config import Provisioning
from machine.model.record import MachineRecord
from machine.ssh.command import host_key_alias, known_hosts_line
from machine.store.paths import MachinePaths

# The frame of the keys that we make. ssh accepts others, too, but a file without any frame is no key.
_KEY_BEGINS, _KEY_ENDS = b"-----BEGIN ", b" PRIVATE KEY-----"


class Flaw(StrEnum):
    """Why a file cannot be used."""

    MISSING = "is missing"
    NO_FILE = "is not a file"
    EMPTY = "is empty"
    UNREADABLE = "cannot be read"
    DAMAGED = "is damaged"


class Needed(StrEnum):
    """What a machine cannot start without."""

    DISK = "disk"
    KEY = "SSH key"
    HOST_KEY = "host key"
    FIRST_BOOT = "first boot's configuration"
    NEW_KEYS = "file with the new keys of a clone"

    def remedy(self, name: str) -> str:
        """Return what the user can do without it."""
        match self:
            case Needed.DISK:
                return f"restore it from a backup, or remove the machine: machine rm {name}"
            case Needed.KEY | Needed.HOST_KEY:
                return (
                    f"restore it from a backup, or make a clone, which gets keys of its own: machine clone {name} NAME"
                )
            case Needed.FIRST_BOOT | Needed.NEW_KEYS:
                return f"its guest has not been up yet, so remove the machine and make it anew: machine rm {name}"


def check_files(record: MachineRecord, paths: MachinePaths) -> None:
    """Check the files that a start reads, except for the disk of a guest that has not been up, which is made anew.

    A known_hosts file without the guest's host key is written anew, and a key that others may read is made private,
    because ssh would refuse it.

    Raises:
        MachineError: a file is missing or damaged; the hint says what to do.
    """
    _require(Needed.KEY, paths.identity, record)
    if flaw := _key_flaw(paths.identity):
        raise _error(Needed.KEY, flaw, paths.identity, record)
    _make_private(paths.identity)
    _ensure_known_hosts(record, paths)
    if record.fresh_disk_base is None:
        _require(Needed.DISK, paths.disk, record)
    if not record.guest.provisioned:
        by_seed = record.config.provisioning is not Provisioning.IGNITION
        _require(Needed.FIRST_BOOT, paths.seed if by_seed else paths.ignition, record)
    if record.pending.rekey:
        _require(Needed.NEW_KEYS, paths.rekey_table, record)


def _require(needed: Needed, path: Path, record: MachineRecord) -> None:
    if flaw := flaw_of(path):
        raise _error(needed, flaw, path, record)


def _error(needed: Needed, flaw: Flaw, path: Path, record: MachineRecord) -> MachineError:
    message = f"the {needed} of {record.name} {flaw}: {path}"
    return MachineError(message, hint=needed.remedy(record.name), page=Page.FILES)


def flaw_of(path: Path) -> Flaw | None:
    """Return why a path is not that of a file with content, or None if it is."""
    try:
        found = path.stat()
    except OSError:
        return Flaw.MISSING
    if not stat.S_ISREG(found.st_mode):
        return Flaw.NO_FILE
    return None if found.st_size else Flaw.EMPTY


def _key_flaw(path: Path) -> Flaw | None:
    try:
        content = path.read_bytes()
    except OSError:
        return Flaw.UNREADABLE
    is_key = content.startswith(_KEY_BEGINS) and content.rstrip().endswith(_KEY_ENDS)
    return None if is_key else Flaw.DAMAGED


def _make_private(path: Path) -> None:
    if path.stat().st_mode & 0o077 and path.stat().st_uid == os.getuid():
        path.chmod(FILE_PRIVATE)


def _ensure_known_hosts(record: MachineRecord, paths: MachinePaths) -> None:
    """Write the file by which ssh recognizes the guest, unless it names the guest."""
    if flaw_of(paths.known_hosts) is None and host_key_alias(record.name) in paths.known_hosts.read_text(
        errors="replace"
    ):
        return
    public = paths.public_host_key
    _require(Needed.HOST_KEY, public, record)
    try:
        line = known_hosts_line(record.name, public.read_text())
    except ValueError as error:
        raise _error(Needed.HOST_KEY, Flaw.DAMAGED, public, record) from error
    with disk_errors(paths.known_hosts):
        write_atomic(paths.known_hosts, line)
