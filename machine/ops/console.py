"""`machine console`: connect a terminal, or a script, to the guest's serial console."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from enum import StrEnum
from typing import BinaryIO

from machine import lock
from machine.deadline import Deadline
from machine.errors import MachineError, reason_of
from machine.model.provider import Capability
from machine.model.state import State
from machine.ops.shared.capability import require
from machine.ops.shared.context import Context
from machine.ops.shared.state import machine_state
from machine.ops.shared.target import unreachable_error
from machine.ops.wake import wake
from machine.report import Reporter
from machine.store import records
from machine.store.paths import MachinePaths

ESCAPE = b"\x1d"  # ctrl-]

_STDIN, _STDOUT = 0, 1
_CHUNK_BYTES = 4096
_MAX_BYTES = 64 * 1024
# The guest's output is read from the log of its console. Polling this often costs little.
_POLL_S = 0.02
_ALIVE_EVERY_S = 0.5
_QEMU_S = 10.0
_QEMU_POLL_S = 0.1
# Commands that only probe the lock hold it for a shorter time.
_LOCK_PATIENCE_S = 0.5
# A guest that reads its console at all reads some of the input within this time.
_DELIVERY_S = 10.0
# How long the guest may go on answering after it has read the last of the input.
_ANSWER_S = 0.5


class Ending(StrEnum):
    """Why the connection to a console ended."""

    LEFT = "left"
    CLOSED = "closed"
    INPUT_ENDED = "input ended"


def attach(name: str, context: Context, report: Reporter) -> Ending:
    """Connect our standard input and output to the console until the user leaves, the input ends, or the machine stops.

    If standard input is a terminal, it is in raw mode meanwhile, so that every key except ctrl-] goes to the guest.

    Raises:
        NotFoundError: there is no such machine.
        MachineError: the machine is not running, or another command is attached to its console.
        GuestError: the guest is paused, and standard input is not a terminal.
        DeadlineError: the guest does not read the text that was sent to its console.
    """
    require(name, Capability.CONSOLE, context)
    records.find(context.roots, name)
    paths = context.roots.machine(name)
    for number, stream in ((_STDIN, "input"), (_STDOUT, "output")):
        try:
            os.fstat(number)
        except OSError as error:
            raise MachineError(f"standard {stream} is closed") from error
    is_terminal = os.isatty(_STDIN)
    wake(name, context, report)
    state = machine_state(paths)
    unreachable = unreachable_error(name, state)
    if unreachable and (not state.state.has_processes or not is_terminal):
        raise unreachable
    with contextlib.ExitStack() as stack:
        stack.enter_context(_exclusive(name, paths))
        console = _open_console(name, paths)
        stack.callback(os.close, console)
        far_end = os.open(paths.console_input, os.O_RDONLY | os.O_NONBLOCK)
        stack.callback(os.close, far_end)
        log = stack.enter_context(paths.serial_log.open("rb", buffering=0))
        log.seek(0, os.SEEK_END)
        if not state.connected and state.state in (State.PAUSED, State.DEGRADED):
            report.notice(f"The guest may not answer: {state.reason or f'it is {state.state}'}")
        if is_terminal:
            report.notice(f"Attached to the serial console of {name}. Press ctrl-] to leave.")
            report.notice(f"You cannot log in here, because no user has a password. Instead, use `machine ssh {name}`.")
            stack.enter_context(_raw(_STDIN))
        return _Relay(console, far_end, log, paths, escape=ESCAPE if is_terminal else None).run()


@contextlib.contextmanager
def _exclusive(name: str, paths: MachinePaths) -> Iterator[None]:
    """Hold the console's lock during the block, so that no second command sends input to the same console.

    Raises:
        MachineError: another command holds the lock.
    """
    descriptor = lock.acquire(paths.console_lock, timeout_s=_LOCK_PATIENCE_S)
    if descriptor is None:
        holder = lock.holder_pid(paths.console_lock)
        process = f" (process {holder})" if holder else ""
        raise MachineError(
            f'another command is attached to the console of "{name}"{process}',
            hint=f"to watch its output, use: machine logs --follow {name}",
        )
    try:
        lock.write_holder(descriptor, os.getpid())
        yield
    finally:
        os.close(descriptor)


def _open_console(name: str, paths: MachinePaths) -> int:
    """Open the FIFO from which QEMU reads the console's input, and return the descriptor to write to.

    If QEMU has not opened the FIFO yet, wait for that.

    Raises:
        MachineError: QEMU does not open the FIFO in time, or the FIFO is missing.
    """
    deadline = Deadline.after(_QEMU_S, "QEMU to open the console")
    while True:
        try:
            # Without O_NONBLOCK this would block until QEMU opens the other end.
            return os.open(paths.console_input, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if deadline.passed or machine_state(paths).state is not State.STARTING:
                why = "QEMU does not read its input" if error.errno == errno.ENXIO else reason_of(error)
                raise MachineError(
                    f'the console of "{name}" cannot be opened: {why}',
                    hint=f"restart the machine with: machine restart {name}",
                ) from error
        time.sleep(_QEMU_POLL_S)


@contextlib.contextmanager
def _raw(terminal: int) -> Iterator[None]:
    before = termios.tcgetattr(terminal)
    try:
        tty.setraw(terminal)
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


class _Relay:
    """Copies the user's input to the console, and the guest's output to standard output.

    If one of the two readers is slow, the other direction goes on. `console` is the end of the console's FIFO to write
    to. `far_end` is the end from which QEMU reads. It only tells how much QEMU has not read yet, because macOS does not
    tell that at the writing end.
    """

    def __init__(self, console: int, far_end: int, log: BinaryIO, paths: MachinePaths, *, escape: bytes | None) -> None:
        self._console = console
        self._far_end = far_end
        self._log = log
        self._paths = paths
        self._escape = escape
        self._to_guest = bytearray()
        self._to_user = b""
        self._left = False
        self._input_ended = False
        self._pending = 0
        self._delivery = self._new_delivery()

    def run(self) -> Ending:
        """Copy until the user leaves, the input ends or the machine stops, and return which of these ended the copying.

        Raises:
            DeadlineError: the guest does not read the text that was sent to its console.
        """
        next_check = 0.0
        while not self._left:
            self._copy_available()
            if time.monotonic() >= next_check:
                next_check = time.monotonic() + _ALIVE_EVERY_S
                if not self._is_alive():
                    self._show_rest()
                    return Ending.CLOSED
            if not self._escape and self._has_delivered():
                time.sleep(_ANSWER_S)
                self._show_rest()
                return Ending.INPUT_ENDED
        self._show_rest()
        return Ending.LEFT

    def _has_delivered(self) -> bool:
        """Return whether standard input has ended and the guest has read everything that came from there.

        Raises:
            DeadlineError: the guest has not read any of the text for too long.
        """
        pending = len(self._to_guest) + _unread_bytes(self._far_end)
        if not pending or pending != self._pending:
            self._pending = pending
            self._delivery = self._new_delivery()
        elif self._delivery.passed:
            raise self._delivery.error()
        return self._input_ended and not pending

    def _new_delivery(self) -> Deadline:
        return Deadline.after(_DELIVERY_S, f"the guest of {self._paths.directory.name} to read its console")

    def _is_alive(self) -> bool:
        """Return whether the machine is running and still has the console that we are connected to."""
        try:
            current = self._paths.console_input.stat()
        except OSError:
            return False
        return os.path.samestat(current, os.fstat(self._console)) and lock.is_held(self._paths.lock)

    def _copy_available(self) -> None:
        """Copy one chunk of bytes from standard input to the console, and one from the console to standard output.

        If nothing can be copied now, wait up to `_POLL_S` for it.
        """
        if not self._to_user:
            self._to_user = self._log.read(_CHUNK_BYTES)
        # Always read what a user types, because it may contain ctrl-].
        takes_input = not self._input_ended and (self._escape or len(self._to_guest) < _MAX_BYTES)
        reading = [_STDIN] if takes_input else []
        writing = [*([self._console] if self._to_guest else []), *([_STDOUT] if self._to_user else [])]
        readable, writable, _ = select.select(reading, writing, [], _POLL_S)
        if _STDIN in readable:
            self._read_user()
        if _STDOUT in writable:
            # Write no more than select promises to take without blocking.
            self._to_user = self._to_user[os.write(_STDOUT, self._to_user[: select.PIPE_BUF]) :]
        if self._console in writable or self._left:
            with contextlib.suppress(BlockingIOError, BrokenPipeError):  # BrokenPipeError: the machine is ending
                del self._to_guest[: os.write(self._console, self._to_guest)]

    def _read_user(self) -> None:
        try:
            typed = os.read(_STDIN, _CHUNK_BYTES)
        except OSError:  # the terminal has been closed
            typed = b""
        if not typed:
            self._input_ended = True
            self._left = bool(self._escape)
        elif self._escape:
            typed, escape, _ = typed.partition(self._escape)
            self._left = bool(escape)
        self._to_guest += typed

    def _show_rest(self) -> None:
        """Write to standard output everything that the guest has written to the console so far."""
        end = os.fstat(self._log.fileno()).st_size
        while self._to_user or self._log.tell() < end:
            chunk = self._to_user or self._log.read(_CHUNK_BYTES)
            self._to_user = chunk[os.write(_STDOUT, chunk) :]


def _unread_bytes(far_end: int) -> int:
    """Return how many bytes QEMU has not yet read from the FIFO."""
    return int.from_bytes(fcntl.ioctl(far_end, termios.FIONREAD, bytes(4)), sys.byteorder)
