"""The SSH master: the one connection that carries the API sockets and TCP forwards, and what is done over it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shlex
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from machine import sockets
from machine.ssh.command import SshTarget, command_argv, master_argv

log = logging.getLogger(__name__)

_POLL_S = 0.05
_SSH_FAILED = 255
_LINE_BYTES = 4096
_BANNER_S = 3.0
_BANNER_MAX_S = 30.0
_BANNER_PAUSE_S = 0.5
# A guest that greets a new connection has an old one answer within so many times what that took it, and this at least.
_DOUBT_TIMES = 3
_DOUBT_S = 2.0
_CLOCK_S = 60.0
_END_S = 5.0


class Master:
    """`forwards` are the guest's sockets by the host's."""

    def __init__(self, target: SshTarget, control: Path, forwards: Mapping[Path, str]) -> None:
        self._target = target
        self._control = control
        self._forwards = forwards
        self._running = asyncio.Lock()

    async def run(self, *, doubtful: bool, on_up: Callable[[], Awaitable[None]]) -> str:
        """Run one from its start to its end, and return its last words; `on_up` when it forwards.

        The next one starts when the one before it, which may have been cancelled, has ended: they share their names.
        Where the guest's answer is `doubtful`, its greeting is awaited first: an attempt of ssh's own that begins
        before the guest's network is up waits for long after it.
        """
        async with self._running:
            if doubtful:
                await self._greeted()
            return await self._run(on_up)

    async def _run(self, on_up: Callable[[], Awaitable[None]]) -> str:
        # One that has outlived its supervisor holds the same names.
        sockets.kill_listener(self._control)
        for path in (self._control, *self._forwards):
            path.unlink(missing_ok=True)
        argv = master_argv(self._target, self._control, self._forwards)
        log.debug("run: %s", shlex.join(argv))
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            return f"ssh cannot be run: {error.strerror}"
        try:
            return await self._attend(process, on_up)
        finally:
            if process.returncode is None:
                await _end(process)

    async def _attend(self, process: asyncio.subprocess.Process, on_up: Callable[[], Awaitable[None]]) -> str:
        assert process.stderr is not None
        words = asyncio.ensure_future(_last_line(process.stderr))
        # OpenSSH makes the control socket when it has logged in and every forward listens.
        while not words.done() and not self._control.exists():
            await asyncio.wait([words], timeout=_POLL_S)
        if not words.done():
            await on_up()
        said = await words
        status = await process.wait()
        if said:
            return said
        return "the guest no longer answers" if status == _SSH_FAILED else f"ssh ended with status {status}"

    async def set_guest_clock(self, *, doubt: bool) -> bool:
        """Set the guest's clock by the host's, and return whether that has worked.

        In `doubt` whether the master is still connected, it has little time from the guest's greeting on.
        """
        ours, theirs = socket.socketpair()
        try:
            with theirs:  # no pipes: asyncio's wait for the process would last until the master, too, lets go of them
                process = await asyncio.create_subprocess_exec(
                    *command_argv(self._target, self._control, "echo; read now && date -u -s @$now"),
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=asyncio.subprocess.DEVNULL,
                )
        except OSError as error:
            ours.close()
            log.debug("ssh cannot be run: %s", error)
            return False
        reader, writer = await asyncio.open_connection(sock=ours)
        asking = asyncio.ensure_future(_tell_the_time(process, reader, writer))
        greeted = asyncio.ensure_future(self._greeted()) if doubt else None
        try:
            async with asyncio.timeout(_CLOCK_S) as patience:
                if greeted:
                    await asyncio.wait([asking, greeted], return_when=asyncio.FIRST_COMPLETED)
                    if greeted.done():
                        left_s = max(_DOUBT_TIMES * greeted.result(), _DOUBT_S)
                        patience.reschedule(asyncio.get_running_loop().time() + left_s)
                return await asking == 0
        except (OSError, TimeoutError, ValueError) as error:  # ValueError: more in a line than anybody reads
            log.debug("the guest's clock is not set: %s", error)
            return False
        finally:
            for task in filter(None, (asking, greeted)):
                task.cancel()
            writer.close()
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _greeted(self) -> float:
        """Return when the guest's SSH server greets, with the seconds that the greeting took it."""
        patience = _BANNER_S
        while True:
            asked = time.monotonic()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(patience):
                    reader, writer = await asyncio.open_connection("127.0.0.1", self._target.port)
                    try:
                        if await reader.read(1):
                            return time.monotonic() - asked
                    finally:
                        writer.close()
            await asyncio.sleep(_BANNER_PAUSE_S)
            patience = min(2 * patience, _BANNER_MAX_S)  # a guest may be as slow as that


async def _end(process: asyncio.subprocess.Process) -> None:
    process.terminate()
    try:
        async with asyncio.timeout(_END_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def _last_line(stream: asyncio.StreamReader) -> str:
    """Of a program that may run and talk for months."""
    end = b""
    while chunk := await stream.read(_LINE_BYTES):
        end = (end + chunk)[-_LINE_BYTES:]
    return end.decode(errors="replace").strip().rpartition("\n")[2].strip()


async def _tell_the_time(
    process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> int:
    """Tell it to a shell that asks for it: a session of its own takes a second where the guest is emulated."""
    await reader.readline()
    writer.write(f"{time.time():.3f}\n".encode())
    await writer.drain()
    writer.write_eof()
    return await process.wait()
