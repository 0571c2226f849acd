"""Share one folder over SSH. A session of the SSH master joins an SFTP server on this host to an sshfs in the guest."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from machine import async_runner
from machine.errors import MachineError, reason_of
from machine.files import open_created
from machine.folders.guest import not_mounted
from machine.model.folders import Folder
from machine.model.host import HostOS

# What folder-sshfs.sh writes to its stderr.
_MOUNTED = "mounted"


def sftp_server_command(path: str, folder: Folder, host_os: HostOS, confine: Sequence[str]) -> list[str]:
    """Return the command line of the SFTP server at `path`, which serves the folder on stdin and stdout.

    On Linux, the server can access only the folder. `confine` is the beginning of the command line that runs
    confine.py.
    """
    read_only = ["-R"] if folder.read_only else []
    server = [path, "-e", *read_only, "-d", folder.source.replace("%", "%%")]
    if host_os is not HostOS.LINUX:
        return server
    return [*confine, folder.source, *server]


class SshfsSession:
    """An SFTP server on this host and an sshfs in the guest, which share one folder, and the pipe between the two.

    The session ends when the SSH master ends, or when `close` is called. If the folder was mounted and `close` was not
    called, `on_end` is then called with the reason.
    """

    def __init__(self, folder: Folder, on_end: Callable[[str], None]) -> None:
        self._folder = folder
        self._on_end = on_end
        self._mounted: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None

    async def open(
        self, local: Sequence[str], remote: Sequence[str], log_file: Path, *, timeout_s: float
    ) -> str | None:
        """Start the SFTP server `local` and the guest's sshfs `remote`, and wait until the folder is mounted.

        Return why the folder is not mounted, or None if it is mounted.
        """
        self._task = asyncio.create_task(self._serve(local, remote, log_file))
        try:
            async with asyncio.timeout(timeout_s):
                return await self._mounted
        except TimeoutError:
            await self.close()
            return not_mounted(self._folder, "sshfs does not answer")

    async def close(self) -> None:
        """End the session without calling `on_end`."""
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _serve(self, local: Sequence[str], remote: Sequence[str], log_file: Path) -> None:
        try:
            reason = await self._join(local, remote, log_file)
        except (MachineError, OSError, ValueError) as error:  # ValueError: a line that is too long
            reason = f"{self._folder.target} cannot be shared over SSH: {reason_of(error)}"
        if self._mounted.done():
            self._on_end(reason)
        else:
            self._mounted.set_result(reason)

    async def _join(self, local: Sequence[str], remote: Sequence[str], log_file: Path) -> str:
        """Run both programs until the one in the guest ends, and return why it ended."""
        async with contextlib.AsyncExitStack() as running:
            ours, theirs = socket.socketpair()
            with ours, theirs, open_created(log_file, "ab") as output:
                server = await async_runner.spawn(local, stdin=ours.fileno(), stdout=ours.fileno(), stderr=output)
                await running.enter_async_context(server)
                guest = await async_runner.spawn(
                    remote, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=async_runner.PIPE
                )
                await running.enter_async_context(guest)
            assert guest.stderr is not None
            last_line = await self._read(guest.stderr)
            await guest.wait()
        return f"sshfs of {self._folder.target} has ended" + (f": {last_line}" if last_line else "")

    async def _read(self, stderr: asyncio.StreamReader) -> str:
        """Read `stderr` to its end and return its last line. The line that reports the mount does not count."""
        last_line = ""
        while line := await stderr.readline():
            text = line.decode(errors="replace").strip()
            if text == _MOUNTED and not self._mounted.done():
                self._mounted.set_result(None)
            else:
                last_line = text or last_line
        return last_line
