"""`machine logs`: what a machine and those who run it have written. None of it asks the guest."""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

from machine.errors import BadInputError, MachineError
from machine.ops.shared.context import Context
from machine.report import Reporter
from machine.store import records
from machine.store.paths import MachinePaths

_EVERY_S = 0.2
_CHUNK_BYTES = 64 * 1024


class Log(StrEnum):
    SERIAL = "serial log"
    SUPERVISOR = "supervisor's log"
    QEMU = "QEMU's log"
    IGNITION = "Ignition's journal"

    def file(self, paths: MachinePaths) -> Path:
        """The one that is written to."""
        match self:
            case Log.SERIAL:
                return paths.serial_log
            case Log.SUPERVISOR:
                return paths.supervisor_log
            case Log.QEMU:
                return paths.qemu_log
            case Log.IGNITION:
                return paths.ignition_journal


def read_log(
    name: str,
    log: Log,
    context: Context,
    report: Reporter,
    *,
    previous: bool = False,
    tail: int | None = None,
    follow: bool = False,
) -> Generator[bytes]:
    """The content of a log, or its last `tail` lines; with `follow` also what is added, until the machine is removed.

    A stop ends nothing: the next start goes on with a log of its own. `previous` is the serial log before this one.

    Raises:
        NotFoundError: there is no such machine.
        BadInputError: no log of that kind is kept, or it cannot grow.
        MachineError: there is no such log yet, or it cannot be read.
    """
    if previous and log is not Log.SERIAL:
        raise BadInputError("only the serial log of the previous start is kept", hint="leave out --previous")
    if previous and follow:
        raise BadInputError("the log of a previous start does not grow", hint="leave out --follow or --previous")
    records.find(context.roots, name)
    paths = context.roots.machine(name)
    with contextlib.ExitStack() as stack:
        older = [stack.enter_context(_File(paths.older_supervisor_log))] if log is Log.SUPERVISOR else []
        current = stack.enter_context(_File(paths.previous_serial_log if previous else log.file(paths)))
        there = [file for file in (*older, current) if file.is_there()]
        if not there and not follow:
            if previous:
                raise MachineError(f'"{name}" has no previous {log}: it has not been started twice')
            raise MachineError(f'"{name}" has no {log} yet: it has not been started')
        content = (chunk for file in there for chunk in file.chunks())
        empty = True
        for chunk in content if tail is None else last_lines(content, tail):
            empty = False
            yield chunk
        if follow:
            yield from _additions(current, paths.directory)
        elif empty and tail != 0:
            report.notice(f'The {log} of "{name}" is empty')


def last_lines(chunks: Iterable[bytes], count: int) -> list[bytes]:
    """The last lines of a text that comes in pieces; the last of all may lack its end."""
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
            time.sleep(_EVERY_S)


class _File(contextlib.AbstractContextManager["_File"]):
    """A log that may begin anew at any time: as another file of that name, or as the same one, emptied."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stream: BinaryIO | None = None

    def __exit__(self, *_: object) -> None:
        if self._stream:
            self._stream.close()

    def is_there(self) -> bool:
        """Whether there is one; opens it.

        Raises:
            MachineError: it cannot be read.
        """
        if not self._stream:
            try:
                self._stream = self._path.open("rb")
            except FileNotFoundError:
                return False
            except OSError as error:
                raise MachineError(f"cannot read {self._path}: {error.strerror}") from error
        return True

    def chunks(self) -> Iterator[bytes]:
        """What has been written since the last call."""
        while self.is_there() and self._stream:
            # Asked before the read: what was written into the old file until then comes first.
            anew = self._begins_anew(self._stream)
            if chunk := self._stream.read1(_CHUNK_BYTES):  # type: ignore[attr-defined]
                yield chunk
            elif anew:
                self._stream.close()
                self._stream = None
            else:
                return

    def _begins_anew(self, stream: BinaryIO) -> bool:
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        return not os.path.samestat(there, os.fstat(stream.fileno())) or there.st_size < stream.tell()
