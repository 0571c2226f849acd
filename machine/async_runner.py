"""Run programs from asyncio. `run` waits for a program's end, and `spawn` starts a program in the background.

machine.runner is the blocking counterpart, with the same error messages. We make the pipes ourselves, because asyncio
waits for a process until every copy of its pipes is closed, and the SSH master keeps copies of a client's pipes for as
long as the client's session lasts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import IO, Final, Self

from machine import runner
from machine.errors import DeadlineError
from machine.runner import Argument, Completed

log = logging.getLogger(__name__)

DEVNULL: Final = subprocess.DEVNULL
PIPE: Final = subprocess.PIPE
"""An argument of `spawn`: make a pipe, whose other end is the `stdin`, `stdout` or `stderr` of the Child."""

Stream = int | IO[bytes]
"""DEVNULL, PIPE, a descriptor or an open file."""

_CHUNK_BYTES = 64 * 1024
# What a program wrote before it ended can be read at once; another process may hold its pipes open for ever.
_DRAIN_S = 1.0


async def run(
    argv: Sequence[Argument],
    *,
    timeout_s: float,
    check: bool = True,
    stdin: str | None = None,
    environment: Mapping[str, str] | None = None,
    logged: bool = True,
) -> Completed:
    """Run a program to its end and capture its output.

    The program is killed after `timeout_s`, or when the caller is cancelled.

    The program gets our environment, LC_ALL=C for English messages, and the variables in `environment`. `logged`
    is not set for programs that run again and again, which would fill the log.

    Raises:
        ProgramError: the exit status is not 0, and `check` is set.
        DeadlineError: the program ran longer than `timeout_s`.
        MachineError: the program is not installed, or cannot be run.
    """
    words = runner.words_of(argv)
    if logged:
        log.debug("run: %s", runner.logged(words))
    source = DEVNULL if stdin is None else PIPE
    variables = {"LC_ALL": "C", **(environment or {})}
    try:
        async with (
            asyncio.timeout(timeout_s),
            await _spawn(words, stdin=source, stdout=PIPE, stderr=PIPE, environment=variables) as child,
        ):
            completed = await _communicate(child, (stdin or "").encode(errors="surrogateescape"))
    except TimeoutError as error:
        raise DeadlineError(f"{words[0]} did not end within {timeout_s:.0f} s") from error
    if check and completed.returncode != 0:
        raise runner.program_error(words, completed)
    return completed


class Child:
    """A program that runs in the background until it ends by itself, its `async with` block ends, or `end` is called.

    `stdin`, `stdout` and `stderr` are streams if `spawn` was given PIPE for them, else None.
    """

    def __init__(self, process: asyncio.subprocess.Process, pipes: _Pipes, patience_s: float) -> None:
        self._process = process
        self._pipes = pipes
        self._patience_s = patience_s
        self.stdin = pipes.stdin
        self.stdout = pipes.stdout
        self.stderr = pipes.stderr

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, or the negative number of the signal that ended the program. None while the program runs."""
        return self._process.returncode

    async def wait(self) -> int:
        """Wait until the program has ended, even if other processes still hold its pipes. Return its exit status."""
        return await self._process.wait()

    def kill(self) -> None:
        """Kill the program if it is still running, without waiting for its end."""
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the program if it is still running."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def end(self) -> int:
        """Terminate the program. If it is still running after `patience_s`, kill it. Return its exit status."""
        try:
            if self.returncode is None and self._patience_s:
                self.send_signal(signal.SIGTERM)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._patience_s):
                        await self.wait()
        finally:
            self.kill()
            try:
                status = await self._reap()
            finally:
                self._pipes.close()
        return status

    async def _reap(self) -> int:
        """Wait for the end of a killed program.

        The wait goes on if the caller is cancelled, because nobody else would wait for the program.
        """
        waiting = asyncio.ensure_future(self.wait())
        cancelled: asyncio.CancelledError | None = None
        while not waiting.done():
            try:
                await asyncio.wait([waiting])
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled:
            raise cancelled
        return waiting.result()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.end()


async def spawn(
    argv: Sequence[Argument],
    *,
    stdin: Stream = DEVNULL,
    stdout: Stream = DEVNULL,
    stderr: Stream = DEVNULL,
    pass_fds: Sequence[int] = (),
    environment: Mapping[str, str] | None = None,
    patience_s: float = 0.0,
) -> Child:
    """Start a program in the background, for use as `async with await spawn(…) as child`.

    `Child.end` sends SIGTERM, and SIGKILL after `patience_s` seconds. If `patience_s` is 0, SIGKILL is sent at once.

    Raises:
        MachineError: the program is not installed, or cannot be run.
    """
    words = runner.words_of(argv)
    log.debug("run: %s", runner.logged(words))
    return await _spawn(
        words,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        pass_fds=pass_fds,
        environment=environment,
        patience_s=patience_s,
    )


async def _spawn(
    words: Sequence[str],
    *,
    stdin: Stream,
    stdout: Stream,
    stderr: Stream,
    pass_fds: Sequence[int] = (),
    environment: Mapping[str, str] | None = None,
    patience_s: float = 0.0,
) -> Child:
    pipes = _Pipes()
    try:
        with runner.machine_errors(words):
            process = await asyncio.create_subprocess_exec(
                *words,
                stdin=await pipes.make_stdin() if stdin == PIPE else stdin,
                stdout=await pipes.make_stdout() if stdout == PIPE else stdout,
                stderr=await pipes.make_stderr() if stderr == PIPE else stderr,
                pass_fds=pass_fds,
                env={**os.environ, **environment} if environment else None,
            )
    except BaseException:
        pipes.close()
        raise
    finally:
        pipes.close_child_ends()
    return Child(process, pipes, patience_s)


class _Pipes:
    """The pipes to a child. Our ends become streams. The child's ends are closed when the child has inherited them."""

    def __init__(self) -> None:
        self.stdin: asyncio.StreamWriter | None = None
        self.stdout: asyncio.StreamReader | None = None
        self.stderr: asyncio.StreamReader | None = None
        self._our_ends = contextlib.ExitStack()
        self._child_ends = contextlib.ExitStack()

    async def make_stdin(self) -> int:
        """Set `stdin`, and return the descriptor that the child reads from."""
        read, write = os.pipe()
        self._child_ends.callback(os.close, read)
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await loop.connect_write_pipe(lambda: protocol, os.fdopen(write, "wb", buffering=0))
        transport.set_write_buffer_limits(0)  # drain() returns when all is in the pipe
        self._our_ends.callback(_abort, transport)
        self.stdin = asyncio.StreamWriter(transport, protocol, reader, loop)
        return read

    async def make_stdout(self) -> int:
        """Set `stdout`, and return the descriptor that the child writes to."""
        self.stdout, write = await self._make_output()
        return write

    async def make_stderr(self) -> int:
        """Set `stderr`, and return the descriptor that the child writes to."""
        self.stderr, write = await self._make_output()
        return write

    async def _make_output(self) -> tuple[asyncio.StreamReader, int]:
        read, write = os.pipe()
        self._child_ends.callback(os.close, write)
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read, "rb", buffering=0)
        )
        self._our_ends.callback(transport.close)
        return reader, write

    def close_child_ends(self) -> None:
        self._child_ends.close()

    def close(self) -> None:
        self._our_ends.close()


def _abort(transport: asyncio.WriteTransport) -> None:
    """Close a pipe at once. Data that the program has not read yet is lost."""
    if not transport.is_closing():
        transport.abort()


async def _communicate(child: Child, stdin: bytes) -> Completed:
    """Write `stdin` to a child of `run`, and collect the child's output until the child ends."""
    out, err = bytearray(), bytearray()
    assert child.stdout is not None
    assert child.stderr is not None
    async with asyncio.TaskGroup() as tasks:
        collecting = [
            tasks.create_task(_collect(child.stdout, out)),
            tasks.create_task(_collect(child.stderr, err)),
        ]
        feeding = tasks.create_task(_feed(child.stdin, stdin)) if child.stdin else None
        status = await child.wait()
        await asyncio.wait(collecting, timeout=_DRAIN_S)
        for task in filter(None, (*collecting, feeding)):
            task.cancel()
    return Completed(returncode=status, stdout=out.decode(errors="replace"), stderr=err.decode(errors="replace"))


async def _collect(stream: asyncio.StreamReader, into: bytearray) -> None:
    while chunk := await stream.read(_CHUNK_BYTES):
        into += chunk


async def _feed(stream: asyncio.StreamWriter, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the program need not read everything
        stream.write(data)
        await stream.drain()
    stream.close()
