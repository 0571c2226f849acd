"""`machine cp`: copy files and directories between host and guest, or one file from or to a standard stream."""

from __future__ import annotations

import contextlib
import os
import posixpath
import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from machine.errors import GuestError, MachineError, NotFoundError, reason_of
from machine.model.transfer import (
    CHUNK_BYTES,
    STANDARD_STREAM,
    CopyRequest,
    Facts,
    Files,
    Kind,
    below,
    irregular_file_error,
    overwrite_error,
    parse_request,
    target_path,
    without_slashes,
)
from machine.ops.cp_host_files import HostFiles
from machine.ops.shared.context import Context
from machine.ops.shared.interrupt import Interrupt
from machine.ops.shared.machine_events import send_event
from machine.ops.shared.parallel import each
from machine.ops.shared.state import machine_state
from machine.ops.shared.target import ended_error, running_target
from machine.ops.wake import wake
from machine.podman.machine_events import Event
from machine.report import Reporter
from machine.ssh.command import SshTarget

_STDIN, _STDOUT = 0, 1
_STREAM_MODE = 0o644
_CLEAN_UP_S = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A file or a directory to copy, at `path`.

    `name` is its path relative to the source that the user gave. It is empty for the source itself.
    """

    path: str
    name: str
    facts: Facts


@dataclass(frozen=True, kw_only=True)
class Survey:
    """Everything to copy. Directories come before their content, and `skipped` has a notice for each file left out."""

    entries: tuple[Entry, ...]
    skipped: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        return sum(entry.facts.size for entry in self.entries if entry.facts.kind is Kind.FILE)


def copy(source: str, destination: str, context: Context, report: Reporter) -> None:
    """Copy a file or a directory. One side is NAME:PATH, the other is a local path or `-`.

    Raises:
        BadInputError: both sides are NAME:PATH, or neither side is. Or a file would replace a directory, or a directory
            would replace a file.
        NotFoundError: there is no such machine.
        MachineError: the machine is not running, or the copy failed.
    """
    request = parse_request(source, destination)
    _check_stream(request)
    wake(request.machine, context, report)
    try:
        target = running_target(request.machine, None, context)
    except NotFoundError as error:
        if not Path(destination if request.to_guest else source).exists():
            raise
        raise NotFoundError(error.message, hint="write ./PATH for a local path that contains a colon") from error
    # Copy in a thread, because ^C in the middle of an SFTP packet would garble all later packets.
    interrupt = Interrupt(_CLEAN_UP_S)
    (result,) = each([request.machine], lambda _: _copy(request, target, report, interrupt), interrupt)
    failure = result.error
    if isinstance(failure, GuestError):
        failure = ended_error(request.machine, machine_state(context.roots.machine(request.machine))) or failure
    if isinstance(failure, MachineError):
        failure.message = f"copy failed: {failure.message}"
    if failure:
        raise failure
    send_event(Event.COPY, request.machine, context)


def _check_stream(request: CopyRequest) -> None:
    """Check that the standard stream that `-` stands for is open.

    This check must come before any file is opened. Otherwise, the file would get the descriptor of a closed stream.
    """
    host_side = request.source if request.to_guest else request.destination
    if host_side == STANDARD_STREAM:
        with _stream_errors(to_guest=request.to_guest):
            os.fstat(_STDIN if request.to_guest else _STDOUT)


def _copy(request: CopyRequest, target: SshTarget, report: Reporter, interrupt: Interrupt) -> None:
    from machine.ssh.sftp import guest_files  # loads paramiko, which takes a while

    host = HostFiles()
    with guest_files(request.machine, target) as guest:
        if request.to_guest and request.source == STANDARD_STREAM:
            _from_stdin(guest, request.destination, report, interrupt)
        elif request.to_guest:
            _copy_tree(host, request.source, guest, request.destination, report, interrupt)
        elif request.destination == STANDARD_STREAM:
            _to_stdout(guest, request.source, report, interrupt)
        else:
            _copy_tree(guest, request.source, host, request.destination, report, interrupt)


def _copy_tree(
    here: Files, source: str, there: Files, destination: str, report: Reporter, interrupt: Interrupt
) -> None:
    report.step(f"Copying {here.show(source)} to {there.show(destination)}")
    survey = take_survey(here, source)
    for line in survey.skipped:
        report.notice(line)
    directory = survey.entries[0].facts.kind is Kind.DIRECTORY
    at_destination = there.stat(without_slashes(destination))
    top = target_path(destination, there.show(destination), at_destination, source, directory=directory)
    progress = _Progress(report, survey.size, interrupt)
    made: list[tuple[str, Facts]] = []
    new: set[str] = set()
    for entry in survey.entries:
        path = below(top, entry.name)
        replaced = None if posixpath.dirname(path) in new else there.stat(path)
        is_directory = entry.facts.kind is Kind.DIRECTORY
        if replaced and (error := overwrite_error(replaced, there.show(path), directory=is_directory)):
            raise error
        if not is_directory:
            _copy_file(here.read(entry.path, entry.facts.size), there, path, entry.facts, replaced, progress)
        elif not replaced:
            there.make_directory(path)
            made.append((path, entry.facts))
            new.add(path)
    # This is done last and bottom-up, because creating an entry changes its directory's time, and only works in a
    # writable directory.
    for path, facts in reversed(made):
        there.set_facts(path, facts)


def _copy_file(
    chunks: Generator[bytes], there: Files, path: str, facts: Facts, replaced: Facts | None, progress: _Progress
) -> None:
    with contextlib.closing(chunks):
        # An existing link stays, and its target is replaced.
        there.write(there.real(path) if replaced else path, progress.counted(chunks), facts, replaced)


def _from_stdin(guest: Files, destination: str, report: Reporter, interrupt: Interrupt) -> None:
    shown = guest.show(destination)
    report.step(f"Copying standard input to {shown}")
    replaced = guest.stat(without_slashes(destination))
    if replaced and (error := overwrite_error(replaced, shown, directory=False)):
        raise error
    path = target_path(destination, shown, replaced, STANDARD_STREAM, directory=False)
    now = int(time.time())
    facts = Facts(kind=Kind.FILE, size=0, mode=_STREAM_MODE, uid=0, gid=0, accessed=now, modified=now)
    if replaced:
        facts = replace(facts, mode=replaced.mode)
    _copy_file(_stdin_chunks(interrupt), guest, path, facts, replaced, _Progress(report, None, interrupt))


def _stdin_chunks(interrupt: Interrupt) -> Generator[bytes]:
    with _stream_errors(to_guest=True):
        while True:
            interrupt.await_input(_STDIN)
            if not (chunk := os.read(_STDIN, CHUNK_BYTES)):
                return
            yield chunk


def _to_stdout(guest: Files, source: str, report: Reporter, interrupt: Interrupt) -> None:
    shown = guest.show(source)
    report.step(f"Copying {shown} to standard output")
    facts = _existing(guest, source)
    if facts.kind is Kind.DIRECTORY:
        raise MachineError(f'"{shown}" is a directory, but only a file can be copied to standard output')
    with contextlib.closing(guest.read(source, facts.size)) as chunks, _stream_errors(to_guest=False):
        for chunk in _Progress(report, facts.size, interrupt).counted(chunks):
            written = 0
            while written < len(chunk):
                written += os.write(_STDOUT, chunk[written:])


@contextlib.contextmanager
def _stream_errors(*, to_guest: bool) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # the reader has closed the pipe, so the program ends silently
        raise
    except OSError as error:
        what = "read standard input" if to_guest else "write to standard output"
        raise MachineError(f"cannot {what}: {reason_of(error)}") from error


def take_survey(files: Files, top: str) -> Survey:
    """List everything below `top`.

    As with scp, symbolic links are followed. Only a link to a directory that contains the link itself is skipped.
    """
    facts = _existing(files, top)
    entries = [Entry(path=top, name="", facts=facts)]
    skipped: list[str] = []
    # Each entry has the real paths of its parents and its own. A real path that occurs twice means a loop.
    folders: list[tuple[Entry, tuple[str, ...]]]
    folders = [(entries[0], (files.real(top),))] if facts.kind is Kind.DIRECTORY else []
    while folders:
        folder, reals = folders.pop()
        for name, listed in files.entries(folder.path):
            path, real = below(folder.path, name), below(reals[-1], name)
            found: Facts | None = listed
            if listed.kind is Kind.LINK:
                found = files.stat(path)
                if found and found.kind is Kind.DIRECTORY:
                    real = files.real(path)
            if not found:
                skipped.append(f"Skipped {files.show(path)}: the target of the link does not exist")
            elif found.kind is Kind.OTHER:
                skipped.append(f"Skipped {files.show(path)}: it is neither a regular file nor a directory")
            elif found.kind is Kind.DIRECTORY and real in reals:
                skipped.append(f"Skipped {files.show(path)}: the link points to a directory that contains the link")
            else:
                entry = Entry(path=path, name=below(folder.name, name), facts=found)
                entries.append(entry)
                if found.kind is Kind.DIRECTORY:
                    folders.append((entry, (*reals, real)))
    return Survey(entries=tuple(entries), skipped=tuple(skipped))


def _existing(files: Files, path: str) -> Facts:
    facts = files.stat(path)
    if facts is None:
        raise NotFoundError(f"cannot read {files.show(path)}: No such file or directory")
    if facts.kind is Kind.OTHER:
        raise irregular_file_error(files.show(path))
    return facts


class _Progress:
    """Reports how many bytes have been copied, as the chunks of the files pass through it."""

    def __init__(self, report: Reporter, total: int | None, interrupt: Interrupt) -> None:
        self._report = report
        self._interrupt = interrupt
        self._total = total
        self._done = 0

    def counted(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._interrupt.check()
            yield chunk
            self._done += len(chunk)
            self._report.progress(self._done, self._total)
