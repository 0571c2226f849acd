"""Publish ports for the guest's Podman, and undo what Podman's lists of containers do not confirm."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from machine.errors import MachineError
from machine.model.ports import Claim, Endpoint, Forward, Origin, Protocol
from machine.ports.checks import Cause, Check, Verdict, add_claims, judge
from machine.ports.forwarding import Forwarding

log = logging.getLogger(__name__)

ListPorts = Callable[[], Awaitable[Mapping[Endpoint, Claim]]]
"""Asks one Podman of the guest which ports its containers publish. Raises MachineError if Podman does not answer."""

_SOON_S = 2.0
_MAX_PAUSE_S = 30.0
_MAX_CHANGES = 20
_MAX_CHECKS = 8192
_MAX_NAMED = 5


class PublishedPorts:
    """Carries out requests of the port API at once, and checks them soon afterwards.

    Every process in the guest can send requests, and a request does not show whether Podman or a container sent it.
    Requests are therefore compared with the lists of containers of root's and the user's Podman. A request is answered
    before its check, because Podman holds a lock on the container until it has the answer, and the list waits for that
    lock. All checks that are due share one reading of the lists. If no check is due, the lists are not read.

    The first false request about a port takes effect for some seconds. Later requests about that port wait for their
    check. A port that was closed because no container publishes it is suspect, and opens only when Podman lists it. A
    port that had to be opened again is disputed, and closes only when Podman no longer lists it.
    """

    def __init__(self, forwarding: Forwarding, lists: Sequence[ListPorts], *, soon_s: float = _SOON_S) -> None:
        self._forwarding = forwarding
        self._lists = list(lists)
        self._soon_s = soon_s
        self._checks: dict[Endpoint, Check] = {}
        self._suspect: set[tuple[Protocol, int]] = set()
        self._disputed: set[Endpoint] = set()
        self._new_checks = asyncio.Event()
        self._unanswered = False

    async def expose(self, endpoint: Endpoint, guest: int) -> None:
        """Open a forward to a container.

        Raises:
            MachineError: the host cannot listen there, or containers may not have the port; the message says what to
                do.
        """
        self._ensure_room(endpoint)
        if not self._is_suspect(endpoint):
            await self._forwarding.add(Forward(endpoint=endpoint, guest=guest, origin=Origin.PUBLISHED))
        self._check_soon(endpoint, Cause.EXPOSED)

    async def unexpose(self, endpoint: Endpoint) -> None:
        """Close a container's forward.

        Raises:
            MachineError: too many requests wait for their check.
        """
        if not self._forwarding.publishes(endpoint) and endpoint not in self._checks:
            return
        self._ensure_room(endpoint)
        if endpoint not in self._disputed:
            await self._forwarding.remove(endpoint, Origin.PUBLISHED)
        self._check_soon(endpoint, Cause.UNEXPOSED)

    def all(self) -> list[Forward]:
        """Return the forwards that are open for containers."""
        return self._forwarding.published()

    def check_inherited(self) -> None:
        """Check the ports that an earlier supervisor has opened, because their containers may have ended since."""
        for forward in self.all():
            if isinstance(forward.endpoint, Endpoint) and forward.endpoint not in self._checks:
                self._check_soon(forward.endpoint, Cause.INHERITED)

    def _is_suspect(self, endpoint: Endpoint) -> bool:
        check = self._checks.get(endpoint)
        return (endpoint.protocol, endpoint.port) in self._suspect or (
            check is not None and check.changes >= _MAX_CHANGES
        )

    def _ensure_room(self, endpoint: Endpoint) -> None:
        if len(self._checks) >= _MAX_CHECKS and endpoint not in self._checks:
            raise MachineError(f"{endpoint} stays as it is: too many requests wait until Podman lists its containers")

    def _check_soon(self, endpoint: Endpoint, cause: Cause) -> None:
        before = self._checks.get(endpoint)
        if before and before.cause is cause and before.changes >= _MAX_CHANGES:
            return  # else requests without end would put the check off without end
        changes = before.changes + 1 if before else 0
        self._checks[endpoint] = Check(cause=cause, since=time.monotonic(), changes=changes)
        self._new_checks.set()

    async def keep_checking(self) -> None:
        """Check ports soon after requests, and check undecided ports again with growing pauses. This never returns."""
        pause: float | None = None
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._new_checks.wait()
            self._new_checks.clear()
            await asyncio.sleep(self._soon_s)  # more requests may follow
            await self._look()
            pause = min(2 * (pause or self._soon_s), _MAX_PAUSE_S) if self._checks else None

    async def _look(self) -> None:
        """Read Podman's lists, and make the checks that were requested before the reading."""
        due = dict(self._checks)
        claims, complete = await self._read_lists(due)
        now = time.monotonic()
        decided: dict[Verdict, list[Endpoint]] = {Verdict.OPEN: [], Verdict.CLOSED: []}
        for endpoint, check in due.items():
            if self._checks.get(endpoint) is not check:
                continue  # another request came after the lists were read
            verdict = judge(check, claims.get(endpoint), now=now, complete=complete)
            if verdict is not Verdict.UNDECIDED:
                del self._checks[endpoint]
                decided[verdict].append(endpoint)
        await self._close(decided[Verdict.CLOSED], due)
        await self._open(decided[Verdict.OPEN], due)

    async def _read_lists(self, due: Iterable[Endpoint]) -> tuple[dict[Endpoint, Claim], bool]:
        """Return what Podman's lists say about ports, and whether this is enough to decide about all ports in `due`.

        The list that was enough last time is read first. The others are read only if needed, because Podman's service
        has to be started in the guest for an answer.
        """
        claims: dict[Endpoint, Claim] = {}
        problem: MachineError | None = None
        for list_ports in tuple(self._lists):
            try:
                found = await list_ports()
            except MachineError as error:
                problem = error
                continue
            add_claims(claims, found)
            if all(claims.get(endpoint) is Claim.ACTIVE for endpoint in due):
                self._lists.remove(list_ports)
                self._lists.insert(0, list_ports)
                problem = None
                break
        if problem and not self._unanswered:
            log.warning("published ports cannot be checked until Podman answers: %s", problem)
        self._unanswered = problem is not None
        return claims, problem is None

    async def _close(self, endpoints: Sequence[Endpoint], due: Mapping[Endpoint, Check]) -> None:
        """Close ports that no running container publishes."""
        self._disputed.difference_update(endpoints)
        closed = await self._forwarding.close_published(endpoints, unless=self._checks)
        if closed:
            self._suspect.update((one.protocol, one.port) for one in closed if due[one].cause is Cause.EXPOSED)
            log.warning("closed %s, because no running container publishes it", _names(closed))

    async def _open(self, endpoints: Sequence[Endpoint], due: Mapping[Endpoint, Check]) -> None:
        """Open ports that a running container publishes. Skip those that are open."""
        self._suspect.difference_update((one.protocol, one.port) for one in endpoints)
        opened = await self._forwarding.ensure_published(endpoints, unless=self._checks)
        if opened:
            self._disputed.update(one for one in opened if due[one].cause is Cause.UNEXPOSED)
            log.warning("opened %s, because a running container publishes it", _names(opened))


def _names(endpoints: Sequence[Endpoint]) -> str:
    more = len(endpoints) - _MAX_NAMED
    return ", ".join(map(str, endpoints[:_MAX_NAMED])) + (f" and {more} more" if more > 0 else "")
