"""Making the host listen: by QEMU's monitor, or by the SSH master. Each binding is one line to either."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from machine.errors import MachineError
from machine.model.ports import Driver
from machine.ports.table import Binding

_SSH_TIMEOUT_S = 20.0

Monitor = Callable[[str], Awaitable[str]]
"""Runs one line of QEMU's human monitor and returns what it prints: nothing, where it has worked."""


def hostfwd(binding: Binding) -> str:
    """The host's side of a rule of `-netdev user`, which names it for removal too."""
    return f"{binding.endpoint.protocol}:{binding.endpoint.host_port('')}"


def local_forward(binding: Binding) -> str:
    """The argument of ssh's -L; podman's ports are open on every address of the guest."""
    return f"{binding.endpoint.host_port('*')}:127.0.0.1:{binding.guest_port}"


class Drivers:
    """`monitor` speaks to QEMU about the network `netdev`; `ssh` gives `ssh -O VERB`, to which -L and a host belong."""

    def __init__(self, monitor: Monitor, netdev: str, ssh: Callable[[str], Sequence[str]]) -> None:
        self._monitor = monitor
        self._netdev = netdev
        self._ssh = ssh

    async def open(self, binding: Binding) -> None:
        """Make the host listen.

        Raises:
            MachineError: it does not.
        """
        match binding.driver:
            case Driver.SLIRP:
                said = await self._monitor(f"hostfwd_add {self._netdev} {hostfwd(binding)}-:{binding.guest_port}")
                if said.strip():
                    raise MachineError(f"cannot publish {binding.endpoint}: QEMU says: {said.strip()}")
            case Driver.SSH:
                await self._tell_master("forward", binding)

    async def close(self, binding: Binding) -> None:
        """End the listening; what was not there is gone already.

        Raises:
            MachineError: QEMU or ssh does not answer.
        """
        match binding.driver:
            case Driver.SLIRP:
                await self._monitor(f"hostfwd_remove {self._netdev} {hostfwd(binding)}")
            case Driver.SSH:
                await self._tell_master("cancel", binding)

    async def _tell_master(self, verb: str, binding: Binding) -> None:
        process = await asyncio.create_subprocess_exec(
            *self._ssh(verb), "-L", local_forward(binding), "x",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(_SSH_TIMEOUT_S):
                _, said = await process.communicate()
        except TimeoutError as error:
            process.kill()
            raise MachineError(f"cannot publish {binding.endpoint}: the SSH master does not answer") from error
        if process.returncode != 0:
            words = said.decode(errors="replace").strip().splitlines()
            raise MachineError(f"cannot publish {binding.endpoint}: {words[-1] if words else 'ssh failed'}")
