"""The two drivers that forward the host's ports. One uses QEMU's monitor, the other uses the SSH master."""

from __future__ import annotations

import contextlib
import logging
import re
import socket
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path, PurePath, PurePosixPath

from machine import async_runner
from machine.errors import DeadlineError, MachineError, Page
from machine.model.ports import ANY_IPV4, EVERY, Driver, Endpoint, Protocol, SocketPath
from machine.ports.backlog import duplicate_listeners, extend_backlog
from machine.ports.table import Binding

log = logging.getLogger(__name__)

_SSH_TIMEOUT_S = 20.0
# In QEMU's list of connections.
_LIST_HEAD = "Protocol[State]"
_LISTENS = re.compile(r"^\s*(TCP|UDP)\[HOST_FORWARD\]\s+\d+\s+(\S+)\s+(\d+)\s", re.MULTILINE)
_EVERY_IN_LIST = "*"

End = str | PurePath
"""One end of an SSH forward: `ADDRESS:PORT`, or the path of a socket, which has to be quoted for ssh."""

Monitor = Callable[[str], Awaitable[str]]
"""Runs a command line in QEMU's human monitor, and returns the command's output, which is empty on success."""


def hostfwd(endpoint: Endpoint) -> str:
    """Return the host's side of a forward in QEMU's notation, for hostfwd_add and hostfwd_remove."""
    return f"{endpoint.protocol}:{endpoint.host_port('')}"


def ssh_ends(binding: Binding) -> tuple[End, End]:
    """Return the host's end and the guest's end of a forward, for ssh's option -L.

    Containers' ports are open on all addresses of the guest, so the guest's end has the guest's loopback address.
    """
    endpoint, guest = binding.endpoint, binding.guest
    return (
        Path(endpoint.path) if isinstance(endpoint, SocketPath) else endpoint.host_port(EVERY),
        PurePosixPath(guest.path) if isinstance(guest, SocketPath) else f"127.0.0.1:{guest}",
    )


class Drivers:
    """Opens and closes bindings, each with the driver that the binding names.

    `netdev` is the ID of QEMU's network. `ssh` returns the command line that tells the SSH master to open
    (`forward`) or to close (`cancel`) a forward between two ends. `pid` returns the process ID of a driver, or None if
    the driver does not run. On the endpoints in `standing`, a driver listens as long as it runs.
    """

    def __init__(
        self,
        monitor: Monitor,
        netdev: str,
        ssh: Callable[[str, End, End], Sequence[str]],
        pid: Callable[[Driver], int | None],
        standing: Mapping[Driver, Sequence[Endpoint | SocketPath]],
    ) -> None:
        self._monitor = monitor
        self._netdev = netdev
        self._ssh = ssh
        self._pid = pid
        self._standing = standing

    def on_driver_up(self, driver: Driver) -> None:
        """Let bursts of clients wait at the endpoints on which a driver listens from its start."""
        for endpoint in self._standing.get(driver, ()):
            self._extend_backlog(driver, endpoint)

    async def open(self, binding: Binding) -> None:
        """Listen on the binding's endpoint, and let bursts of clients wait there.

        Raises:
            MachineError: QEMU or ssh refuses, or does not answer.
        """
        await self._listen(binding)
        self._extend_backlog(binding.driver, binding.endpoint)

    async def listed(self) -> set[Endpoint] | None:
        """Return where QEMU listens for forwards. Return None if it does not say."""
        try:
            text = await self._monitor("info usernet")
        except MachineError as error:
            log.info("QEMU does not list its forwards: %s", error)
            return None
        if _LIST_HEAD not in text:
            return None
        return {
            Endpoint(
                protocol=Protocol(kind.lower()),
                address=ANY_IPV4 if address == _EVERY_IN_LIST else address,
                port=int(port),
            )
            for kind, address, port in _LISTENS.findall(text)
        }

    def duplicates(self, bindings: Collection[Binding]) -> dict[Endpoint | SocketPath, socket.socket]:
        """Return duplicates of the sockets on which the drivers listen, of the bindings and of what always stands."""
        found: dict[Endpoint | SocketPath, socket.socket] = {}
        for driver in Driver:
            own = [one.endpoint for one in bindings if one.driver is driver]
            pid = self._pid(driver)
            if pid is not None:
                try:
                    found |= duplicate_listeners(pid, [*self._standing.get(driver, ()), *own])
                except OSError as error:
                    log.info("the sockets of %s are not kept open: %s", driver, error)
        return found

    async def _listen(self, binding: Binding) -> None:
        match binding:
            case Binding(driver=Driver.SLIRP, endpoint=Endpoint() as endpoint):
                output = await self._monitor(f"hostfwd_add {self._netdev} {hostfwd(endpoint)}-:{binding.guest}")
                if output.strip():
                    raise MachineError(f"cannot publish {endpoint}: {output.strip()}", page=Page.PORTS)
            case _:
                await self._ask_master("forward", binding)

    def _extend_backlog(self, driver: Driver, endpoint: Endpoint | SocketPath) -> None:
        pid = self._pid(driver)
        if pid is None or (isinstance(endpoint, Endpoint) and endpoint.protocol is Protocol.UDP):
            return
        try:
            extend_backlog(pid, endpoint)
        except OSError as error:
            log.info("bursts of connections to %s are served slowly: %s", endpoint, error)

    async def close(self, binding: Binding) -> None:
        """Close a binding, if it is open.

        Raises:
            MachineError: QEMU or ssh does not answer.
        """
        match binding:
            case Binding(driver=Driver.SLIRP, endpoint=Endpoint() as endpoint):
                await self._monitor(f"hostfwd_remove {self._netdev} {hostfwd(endpoint)}")
            case _:
                try:
                    await self._ask_master("cancel", binding)
                finally:
                    remove_socket(binding)

    async def _ask_master(self, verb: str, binding: Binding) -> None:
        argv = self._ssh(verb, *ssh_ends(binding))
        try:
            completed = await async_runner.run(argv, timeout_s=_SSH_TIMEOUT_S, check=False)
        except DeadlineError as error:
            problem = f"cannot publish {binding.endpoint}: the SSH master does not answer"
            raise MachineError(problem, page=Page.PORTS) from error
        except MachineError as error:
            raise MachineError(f"cannot publish {binding.endpoint}: {error.message}", hint=error.hint) from error
        if completed.returncode != 0:
            lines = completed.stderr.strip().splitlines()
            reason = lines[-1] if lines else "ssh failed"
            raise MachineError(f"cannot publish {binding.endpoint}: {reason}", page=Page.PORTS)


def remove_socket(binding: Binding) -> None:
    """Remove the socket file that OpenSSH leaves behind when a binding is closed."""
    if isinstance(binding.endpoint, SocketPath):
        path = Path(binding.endpoint.path)
        with contextlib.suppress(OSError):
            if path.is_socket():
                path.unlink()
