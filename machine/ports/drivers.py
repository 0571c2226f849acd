"""Making the host listen: by QEMU's monitor, or by the SSH master. Each binding is one line to either."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path, PurePath, PurePosixPath

from machine.errors import MachineError
from machine.model.ports import EVERY, Driver, Endpoint, SocketPath
from machine.ports.table import Binding

_SSH_TIMEOUT_S = 20.0

End = str | PurePath
"""Of a forward of ssh's: `ADDRESS:PORT`, or a socket's path, which wants quoting."""

Monitor = Callable[[str], Awaitable[str]]
"""Runs one line of QEMU's human monitor and returns what it prints: nothing, where it has worked."""


def hostfwd(endpoint: Endpoint) -> str:
    """The host's side of a rule of `-netdev user`, which names it for removal too."""
    return f"{endpoint.protocol}:{endpoint.host_port('')}"


def ssh_ends(binding: Binding) -> tuple[End, End]:
    """What ssh's -L has of the host and of the guest; podman's ports are open on every address of the guest."""
    endpoint, guest = binding.endpoint, binding.guest
    return (
        Path(endpoint.path) if isinstance(endpoint, SocketPath) else endpoint.host_port(EVERY),
        PurePosixPath(guest.path) if isinstance(guest, SocketPath) else f"127.0.0.1:{guest}",
    )


class Drivers:
    """`monitor` speaks to QEMU about the network `netdev`; `ssh` gives the command line that has the master do VERB."""

    def __init__(self, monitor: Monitor, netdev: str, ssh: Callable[[str, End, End], Sequence[str]]) -> None:
        self._monitor = monitor
        self._netdev = netdev
        self._ssh = ssh

    async def open(self, binding: Binding) -> None:
        """Make the host listen.

        Raises:
            MachineError: it does not.
        """
        match binding:
            case Binding(driver=Driver.SLIRP, endpoint=Endpoint() as endpoint):
                said = await self._monitor(f"hostfwd_add {self._netdev} {hostfwd(endpoint)}-:{binding.guest}")
                if said.strip():
                    raise MachineError(f"cannot publish {endpoint}: QEMU says: {said.strip()}")
            case _:
                await self._tell_master("forward", binding)

    async def close(self, binding: Binding) -> None:
        """End the listening; what was not there is gone already.

        Raises:
            MachineError: QEMU or ssh does not answer.
        """
        match binding:
            case Binding(driver=Driver.SLIRP, endpoint=Endpoint() as endpoint):
                await self._monitor(f"hostfwd_remove {self._netdev} {hostfwd(endpoint)}")
            case _:
                try:
                    await self._tell_master("cancel", binding)
                finally:
                    remove_socket(binding)

    async def _tell_master(self, verb: str, binding: Binding) -> None:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._ssh(verb, *ssh_ends(binding)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise MachineError(f"cannot publish {binding.endpoint}: ssh cannot be run: {error.strerror}") from error
        try:
            async with asyncio.timeout(_SSH_TIMEOUT_S):
                _, said = await process.communicate()
        except TimeoutError as error:
            raise MachineError(f"cannot publish {binding.endpoint}: the SSH master does not answer") from error
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if process.returncode != 0:
            words = said.decode(errors="replace").strip().splitlines()
            raise MachineError(f"cannot publish {binding.endpoint}: {words[-1] if words else 'ssh failed'}")


def remove_socket(binding: Binding) -> None:
    """OpenSSH leaves the sockets that it listened on."""
    if isinstance(binding.endpoint, SocketPath):
        path = Path(binding.endpoint.path)
        with contextlib.suppress(OSError):
            if path.is_socket():
                path.unlink()
