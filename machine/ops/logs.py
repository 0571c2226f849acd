"""`machine logs`: read the logs of the guest, of QEMU and of the supervisor."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

from machine import lock
from machine.errors import BadInputError, MachineError, reason_of
from machine.model.provider import Capability, Provider, check_capability
from machine.model.record import MachineRecord
from machine.ops.shared.context import Context
from machine.report import Reporter
from machine.store import records
from machine.store.paths import MachinePaths

_POLL_S = 0.2
_CHUNK_BYTES = 64 * 1024


class Log(StrEnum):
    SERIAL = "serial log"
    SUPERVISOR = "supervisor's log"
    QEMU = "QEMU's log"
    IGNITION = "Ignition's journal"

    def files(self, paths: MachinePaths, *, previous: bool) -> list[Path]:
        """Return the files of this log, the oldest first. New lines are written to the last file."""
        match self:
            case Log.SERIAL:
                return [paths.previous_serial_log if previous else paths.serial_log]
            case Log.SUPERVISOR:
                return [paths.older_supervisor_log, paths.supervisor_log]
            case Log.QEMU:
                return [paths.qemu_log]
            case Log.IGNITION:
                return [paths.ignition_journal]


def read_log(
    name: str,
    log: Log | None,
    context: Context,
    report: Reporter,
    *,
    previous: bool = False,
    tail: int | None = None,
    follow: bool = False,
) -> Generator[bytes]:
    """Yield the content of a machine's log, or only the last `tail` lines of the log.

    With `previous`, read the log of the previous start. With `follow`, also yield what is added to the log later, even
    by later starts, until the machine is removed. If `log` is None, it is the serial log, or for a host over SSH the
    supervisor's log.

    Raises:
        NotFoundError: there is no such machine.
        BadInputError: `previous` is set together with `follow`, or for another log than the serial log.
        MachineError: there is no such log yet, or the log cannot be read.
    """
    if previous:
        log = log or Log.SERIAL
        _check_previous(log, follow=follow)
    found = records.find(context.roots, name)
    # A machine whose record is damaged is taken for a virtual one.
    provider = found.config.provider if isinstance(found, MachineRecord) else Provider.QEMU
    log = log or (Log.SUPERVISOR if provider is Provider.SSH else Log.SERIAL)
    if log is not Log.SUPERVISOR:
        check_capability(name, provider, Capability.CONSOLE)
    paths = context.roots.machine(name)
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(_File(path)) for path in log.files(paths, previous=previous)]
        existing = [file for file in files if file.open_if_exists()]
        if not existing and not follow:
            raise _missing(name, log, previous=previous, runs=lock.is_held(paths.lock))
        content = itertools.chain.from_iterable(file.chunks() for file in existing)
        empty = True
        for chunk in content if tail is None else last_lines(content, tail):
            empty = False
            yield chunk
        if follow:
            yield from _additions(files[-1], paths.directory)
        elif empty and tail != 0:
            report.notice(f'The {log} of "{name}" is empty')


def _check_previous(log: Log, *, follow: bool) -> None:
    if log is not Log.SERIAL:
        raise BadInputError("the only log of the previous start is the serial log", hint="leave out --previous")
    if follow:
        raise BadInputError("the log of a previous start cannot be followed", hint="leave out --follow or --previous")


def _missing(name: str, log: Log, *, previous: bool, runs: bool) -> MachineError:
    if previous:
        return MachineError(f'"{name}" has no previous {log}, because the machine has been started only once or never')
    if runs:
        return MachineError(f'the {log} of "{name}" was removed; the next start begins a new one')
    return MachineError(f'"{name}" has no {log} yet, because the machine has not been started')


def last_lines(chunks: Iterable[bytes], count: int) -> list[bytes]:
    """Return the last `count` lines of a text that arrives in chunks. The text need not end with a newline."""
    lines: deque[bytes] = deque(maxlen=count)
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        lines.extend(line + b"\n" for line in whole)
    if rest:
        lines.append(rest)
    return list(lines)


def _additions(file: _File, directory: Path) -> Iterator[bytes]:
    while directory.exists():
        added = False
        for chunk in file.chunks():
            added = True
            yield chunk
        if not added:
            time.sleep(_POLL_S)


class _File(contextlib.AbstractContextManager["_File"]):
    """A log file. At any time the file may be truncated, or be replaced by a new file at the same path."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stream: BinaryIO | None = None

    def __exit__(self, *_: object) -> None:
        if self._stream:
            self._stream.close()

    def open_if_exists(self) -> bool:
        """Open the log if it exists, and return whether it exists.

        Raises:
            MachineError: the log cannot be read.
        """
        if not self._stream:
            try:
                self._stream = self._path.open("rb")
            except FileNotFoundError:
                return False
            except OSError as error:
                raise MachineError(f"cannot read {self._path}: {reason_of(error)}") from error
        return True

    def chunks(self) -> Iterator[bytes]:
        """Yield what has been written to the log since the last call."""
        while self.open_if_exists() and self._stream:
            # This is checked before reading, so that the rest of a replaced file is read first.
            was_replaced = self._was_replaced(self._stream)
            if chunk := self._stream.read1(_CHUNK_BYTES):  # type: ignore[attr-defined]
                yield chunk
            elif was_replaced:
                self._stream.close()
                self._stream = None
            else:
                return

    def _was_replaced(self, stream: BinaryIO) -> bool:
        """Return whether the log is now another file than `stream`, or has been truncated."""
        try:
            current = self._path.stat()
        except FileNotFoundError:
            return False
        return not os.path.samestat(current, os.fstat(stream.fileno())) or current.st_size < stream.tell()
