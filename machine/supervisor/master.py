"""The SSH master, which is the one connection that carries the API sockets, the TCP forwards and our commands."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from machine import async_runner, sockets
from machine.async_runner import PIPE, Child
from machine.errors import MachineError
from machine.ssh.command import SSH_FAILED, SshTarget, command_argv, master_argv, proxy_argv
from machine.ssh.refusal import refusal
from machine.supervisor.events import SshSilence

log = logging.getLogger(__name__)

_POLL_S = 0.05
_LINE_BYTES = 4096
_GREETING_S = 3.0
_MAX_GREETING_S = 30.0
_GREETING_PAUSE_S = 0.5
# The guest may take this many times as long to answer on the old connection as to greet on a new one, …
_DOUBT_FACTOR = 3
# … but it always has this long.
_MIN_DOUBT_S = 2.0
_CLOCK_S = 60.0
_END_S = 5.0

_SET_CLOCK = "echo; read now && date -u -s @$now"
_READ_TIME = "echo; read now"


class Master:
    """Runs SSH masters for the guest of the machine `name`, one after another.

    `forwards` maps the host's sockets to the guest's.

    `patience` is how many times as long as usual the guest may take to answer. The guest's clock is left alone unless
    `sets_clock` is set.
    """

    def __init__(
        self,
        name: str,
        target: SshTarget,
        control: Path,
        forwards: Mapping[Path, str],
        *,
        patience: int = 1,
        sets_clock: bool = True,
    ) -> None:
        self._name = name
        self.target = target
        self._control = control
        self._forwards = forwards
        self.patience = patience
        self._clock_command = _SET_CLOCK if sets_clock else _READ_TIME
        self._running = asyncio.Lock()

    async def run(
        self,
        *,
        expects_delay: bool,
        on_up: Callable[[], Awaitable[None]],
        on_silence: Callable[[SshSilence], None] = lambda _: None,
    ) -> str:
        """Run one master until it ends, and return why it ended. `on_up` is called when the forwards work.

        The host's sockets then replace those of an earlier master, or of the process that has waited for clients.

        First wait until the previous master has ended, because both masters use the same socket paths. With
        `expects_delay`, also wait until the guest's SSH server greets a connection, because an ssh that connects before
        the guest's network is up goes on waiting long after the network is up. Meanwhile `on_silence` is called with
        the reason why there is no greeting, and again when the reason changes.
        """
        async with self._running:
            if expects_delay:
                await self.await_greeting(on_silence)
            return await self._run(on_up)

    async def _run(self, on_up: Callable[[], Awaitable[None]]) -> str:
        # A master that has outlived its supervisor uses the same paths.
        sockets.kill_listener(self._control)
        forwards = {sockets.new_path(path): guest for path, guest in self._forwards.items()}
        for path in (self._control, *forwards):
            path.unlink(missing_ok=True)
        argv = master_argv(self.target, self._control, forwards, patience=self.patience)
        try:
            child = await async_runner.spawn(argv, stderr=PIPE, patience_s=_END_S)
        except MachineError as error:
            return error.message
        async with child:
            return await self._attend(child, on_up)

    async def _attend(self, child: Child, on_up: Callable[[], Awaitable[None]]) -> str:
        assert child.stderr is not None
        messages = asyncio.ensure_future(_last_messages(child.stderr))
        try:
            # OpenSSH makes the control socket when it has logged in and every forward listens.
            while not messages.done() and not self._control.exists():
                await asyncio.wait([messages], timeout=_POLL_S)
            if not messages.done():
                for path in self._forwards:
                    sockets.new_path(path).replace(path)
                await on_up()
            said = await messages
        finally:
            messages.cancel()
        status = await child.wait()
        if error := refusal(self._name, self.target, said):
            return error.line
        if said:
            return said.rpartition("\n")[2].strip()
        return "the SSH server no longer answers" if status == SSH_FAILED else f"ssh exited with status {status}"

    async def set_guest_clock(self, *, in_doubt: bool) -> bool:
        """Set the guest's clock to the host's time. Return whether the guest has set its clock, or was only to answer.

        `in_doubt` says that the master's connection may be lost. To find out, a second connection is made. When the
        guest's SSH server greets the second connection, the guest has only little time left to answer on the first.
        """
        argv = command_argv(self.target, self._control, self._clock_command)
        try:
            async with await async_runner.spawn(argv, stdin=PIPE, stdout=PIPE) as child:
                return await self._send_time(child, in_doubt=in_doubt)
        except (MachineError, OSError, TimeoutError, ValueError) as error:  # ValueError: an endless line
            log.debug("the guest's clock is not set: %s", error)
            return False

    async def _send_time(self, child: Child, *, in_doubt: bool) -> bool:
        sending = asyncio.ensure_future(_send_time(child))
        greeting = asyncio.ensure_future(self.await_greeting()) if in_doubt else None
        try:
            async with asyncio.timeout(_CLOCK_S) as patience:
                if greeting:
                    await asyncio.wait([sending, greeting], return_when=asyncio.FIRST_COMPLETED)
                    if greeting.done():
                        left_s = max(_DOUBT_FACTOR * greeting.result(), _MIN_DOUBT_S)
                        patience.reschedule(asyncio.get_running_loop().time() + left_s)
                return await sending == 0
        finally:
            for task in filter(None, (sending, greeting)):
                task.cancel()

    async def await_greeting(self, on_silence: Callable[[SshSilence], None] = lambda _: None) -> float:
        """Connect until the guest's SSH server greets a connection. Return how many seconds that greeting took.

        `on_silence` is called with the reason why there is no greeting, and again when the reason changes.
        """
        patience_s = _GREETING_S
        told: SshSilence | None = None
        while True:
            asked = time.monotonic()
            silence = await _greeting_obstacle(self.target, patience_s)
            if silence is None:
                return time.monotonic() - asked
            if silence is not told:
                told = silence
                on_silence(silence)
            await asyncio.sleep(_GREETING_PAUSE_S)
            patience_s = min(2 * patience_s, _MAX_GREETING_S * self.patience)  # a slow guest may need that long


async def _greeting_obstacle(target: SshTarget, patience_s: float) -> SshSilence | None:
    """Connect once to the guest's SSH server. Return None if it greets, else the reason why it does not.

    QEMU accepts each connection, and hangs up if the guest refuses it.
    """
    if proxy := proxy_argv(target):
        return await _proxied_obstacle(proxy, patience_s)
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(patience_s):
            reader, writer = await asyncio.open_connection(target.address, target.port)
            return None if await reader.read(1) else SshSilence.REFUSED
    except TimeoutError:
        return SshSilence.SILENT
    except OSError:
        return SshSilence.REFUSED if writer else SshSilence.CLOSED
    finally:
        if writer:
            writer.close()


async def _proxied_obstacle(proxy: Sequence[str], patience_s: float) -> SshSilence | None:
    """Run a proxy command once. Return None if a server greets through it, else the reason why none does."""
    try:
        async with asyncio.timeout(patience_s), await async_runner.spawn(proxy, stdin=PIPE, stdout=PIPE) as child:
            assert child.stdout is not None
            return None if await child.stdout.read(1) else SshSilence.REFUSED
    except TimeoutError:
        return SshSilence.SILENT
    except MachineError:
        return SshSilence.CLOSED


async def _last_messages(stream: asyncio.StreamReader) -> str:
    """Read a stream to its end, and return its last lines. Meanwhile, keep only the most recent bytes in memory."""
    end = b""
    while chunk := await stream.read(_LINE_BYTES):
        end = (end + chunk)[-_LINE_BYTES:]
    return end.decode(errors="replace").strip()


async def _send_time(child: Child) -> int:
    """Send the host's time to the guest's shell, and return the exit status of ssh.

    First wait until the shell has printed a line, because an emulated guest may take a second to start the shell.
    """
    assert child.stdin is not None
    assert child.stdout is not None
    await child.stdout.readline()
    child.stdin.write(f"{time.time():.3f}\n".encode())
    await child.stdin.drain()
    child.stdin.close()
    return await child.wait()
