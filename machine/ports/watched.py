"""Open the ports that containers publish on a remote host, by watching the host's Podman.

A virtual machine's Podman asks for its ports through the port API. The Podman of a host knows nothing of that.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from machine.errors import MachineError
from machine.model.ports import Claim, Endpoint, Protocol
from machine.ports.checks import add_claims
from machine.ports.forwarding import Forwarding
from machine.ports.published import ListPorts

log = logging.getLogger(__name__)

Events = Callable[[], AsyncIterator[None]]
"""Yields whenever a container of one Podman starts or ends. Raises MachineError if Podman does not answer."""

_SETTLE_S = 0.3
_RETRY_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the ports of the host's running containers come to: those to open here, and those that cannot be."""

    open: tuple[Endpoint, ...]
    not_carried: Mapping[Endpoint, str]
    """Why each of these ports cannot be opened here."""


def wanted_ports(claims: Mapping[Endpoint, Claim]) -> Wanted:
    """Decide which of a host's published ports are opened on this host as well (pure).

    The way to the host leads to its loopback address, and SSH carries TCP.
    """
    wanted: list[Endpoint] = []
    others: dict[Endpoint, str] = {}
    for endpoint in (one for one, claim in claims.items() if claim is Claim.ACTIVE):
        if endpoint.protocol is Protocol.UDP:
            others[endpoint] = "SSH does not carry UDP"
        elif not endpoint.includes_loopback:
            others[endpoint] = "the container listens on another address of the host only"
        else:
            wanted.append(endpoint)
    return Wanted(open=tuple(wanted), not_carried=others)


class WatchedPorts:
    """Keeps the same ports open on this host as containers publish on the remote host.

    `is_up` says whether the host's Podman can be reached. `on_notice` is called once with each port that cannot be
    opened here, and the reason.
    """

    def __init__(
        self,
        forwarding: Forwarding,
        lists: Sequence[ListPorts],
        events: Sequence[Events],
        *,
        is_up: Callable[[], bool],
        on_notice: Callable[[str], None],
        every_s: float,
    ) -> None:
        self._forwarding = forwarding
        self._lists = lists
        self._events = events
        self._is_up = is_up
        self._on_notice = on_notice
        self._every_s = every_s
        self._changed = asyncio.Event()
        self._told: set[Endpoint] = set()

    async def watch(self) -> None:
        """Follow the host's Podman. Without an event, its containers are listed every so often. This never returns."""
        async with asyncio.TaskGroup() as following:
            for events in self._events:
                following.create_task(self._follow(events))
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._every_s):
                        await self._changed.wait()
                await asyncio.sleep(_SETTLE_S)  # more events may follow
                self._changed.clear()
                if self._is_up():
                    await self._compare()

    async def _follow(self, events: Events) -> None:
        while True:
            if self._is_up():
                self._changed.set()  # what has happened before is not told
                try:
                    async for _ in events():
                        self._changed.set()
                except MachineError as error:
                    log.debug("the events of the host's Podman end: %s", error)
            await asyncio.sleep(_RETRY_S)

    async def _compare(self) -> None:
        """Read Podman's lists, and open and close ports so that they are the same as on the host."""
        claims: dict[Endpoint, Claim] = {}
        for list_ports in self._lists:
            try:
                found = await list_ports()
            except MachineError as error:
                log.info("the ports of the host are not compared: %s", error)
                return
            add_claims(claims, found)
        wanted = wanted_ports(claims)
        self._tell(wanted.not_carried)
        present = [one.endpoint for one in self._forwarding.published() if isinstance(one.endpoint, Endpoint)]
        await self._forwarding.close_published(present, unless=set(wanted.open))
        await self._forwarding.ensure_published(wanted.open, unless=())

    def _tell(self, not_carried: Mapping[Endpoint, str]) -> None:
        for endpoint in _new(not_carried, self._told):
            self._on_notice(f"The host's port {endpoint} is not opened here: {not_carried[endpoint]}")
        self._told = set(not_carried)


def _new(endpoints: Iterable[Endpoint], told: set[Endpoint]) -> list[Endpoint]:
    return [one for one in endpoints if one not in told]
