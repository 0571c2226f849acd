"""Ask a running guest over the SSH master what is wrong with it."""

from __future__ import annotations

import asyncio
import logging
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from machine import async_runner
from machine.errors import DeadlineError, MachineError
from machine.supervisor.diagnosis import GuestTrouble, PodmanHealth, diagnose, keeps_failing
from machine.supervisor.events import GuestExamined, GuestUnanswering
from machine.supervisor.phases import Phase
from machine.supervisor.record import RecordKeeper
from machine.supervisor.tracker import LifeTracker
from machine.supervisor.vitals import Vitals, parse_vitals

log = logging.getLogger(__name__)

_ANSWER_S = 15.0
_GROW_S = 60.0
# How long a booting guest may take until it listens on the Podman sockets. The time scale multiplies this.
_LISTENING_S = 30.0
# Every so many questions to a running machine, one is full.
_FULL_EVERY = 5
# The share of its time that a guest may be busy with questions that also try a Podman that has failed.
_MAX_TRY_SHARE = 0.25
# By how much a slow answer may lengthen the time to the next question. A guest that stood still is not a slow guest.
_MAX_STRETCH = 3


@dataclass(frozen=True, kw_only=True)
class CheckSettings:
    """How to ask a guest what is wrong with it, and how often."""

    ssh: Callable[[str], list[str]] | None
    """Returns the command line that runs a command as root in the guest, over the SSH master.

    None if the guest is not asked, because it is a host of its own.
    """

    script: str
    """The text of examine.sh, which prints the facts about a guest."""

    grow: str
    """A script that grows the guest's root file system to the size of its disk."""

    time_scale: int
    every_s: float
    """How many seconds pass between two questions to the guest of a machine that is up."""

    max_share: float
    """The share of its time that a guest may spend on answers. A slow guest is therefore asked less often."""

    start_every_s: float
    """How many seconds pass between two questions while a start waits for the Podman API, and before the first one."""


class GuestCheck:
    """Asks the guest at intervals what is wrong with it, and posts the answer as an event."""

    def __init__(self, settings: CheckSettings, *, life: LifeTracker, record: RecordKeeper) -> None:
        self._settings = settings
        self._life = life
        self._record = record
        self._kills: int | None = None
        self._had_podman = False
        self._last_health = PodmanHealth.UNKNOWN
        """What the last answer says about Podman. The machine's state follows when the event has been dealt with."""

        self._is_silent = False
        """Whether the guest has not answered the last question in time."""

        self._has_grown = False
        self._waiting_since = time.monotonic()
        """When the wait for the Podman API has begun."""

        self.vitals: Vitals | None = None
        """The answer to the last full question; None without an answer."""

    async def watch(self) -> None:
        """Ask at intervals, unless the guest is paused or cannot be reached. This never returns."""
        await self._watch_start()
        rounds, pause_s = 0, self._settings.every_s
        while True:
            await asyncio.sleep(pause_s)
            began = time.monotonic()
            life = self._life.current
            if life.phase is not Phase.API:
                self._waiting_since = began
            if life.may_answer and not life.stopping:
                rounds += 1
                await self.examine(is_full=life.phase is Phase.API or rounds % _FULL_EVERY == 0)
            pause_s = self._pause_s(time.monotonic() - began)

    def _pause_s(self, took_s: float) -> float:
        """Return how long to wait after a question that took so long."""
        if self._is_silent:
            return self._settings.every_s / 2
        if self._last_health.is_bad:  # each question tries Podman, and its user may be about to mend it
            return max(self._settings.every_s / 2, took_s / _MAX_TRY_SHARE)
        every_s = self._settings.every_s
        return min(max(every_s, took_s / self._settings.max_share), every_s * _MAX_STRETCH)

    async def _watch_start(self) -> None:
        """While a start waits for the Podman API, ask the guest at intervals what is wrong with it.

        If Podman fails, the start ends before its deadline.
        """
        pause_s = self._settings.start_every_s * self._settings.time_scale
        asked = time.monotonic()
        while self._life.current.start_pending:
            await asyncio.sleep(self._settings.start_every_s)
            now, life = time.monotonic(), self._life.current
            if life.phase is not Phase.API:
                asked = self._waiting_since = now
            elif life.may_answer and now - asked >= pause_s:
                await self.examine(is_full=True)
                asked = time.monotonic()

    async def examine(self, *, is_full: bool, deadline: Phase | None = None) -> None:
        """Ask the guest what is wrong with it, and post its answer as an event.

        If `deadline` is given, this phase has taken too long, and the event is posted even if the guest does not
        answer.
        """
        vitals, clock_off_s = await self._ask(is_full=is_full)
        if vitals and not is_full and self._is_suspicious(vitals):
            is_full = True
            vitals, clock_off_s = await self._ask(is_full=True)
        podman = self._podman_health(vitals) if vitals else PodmanHealth.UNKNOWN
        suspected = PodmanHealth.FAILING if deadline is Phase.API and not podman.is_bad else podman
        diagnosis = diagnose(vitals, clock_off_s=clock_off_s, podman=suspected) if vitals else None
        if diagnosis and diagnosis.trouble is GuestTrouble.DISK_FULL and self._may_grow:
            await self._grow()
            await self.examine(is_full=is_full, deadline=deadline)
            return
        if vitals:
            self._last_health = podman
            self.vitals = vitals if is_full else self.vitals
            self._kills = vitals.oom_kills
            self._had_podman = self._had_podman or vitals.has_podman
        if vitals or deadline:
            self._life.post(GuestExamined(diagnosis=diagnosis, podman=podman, deadline=deadline))
        elif self._is_silent:
            self._life.post(GuestUnanswering())

    def _podman_health(self, vitals: Vitals) -> PodmanHealth:
        """Return whether Podman is known not to work. While the API is awaited, one failure is not enough."""
        life = self._life.current
        waited_s = float("inf")
        fails = vitals.socket_failed or vitals.service_failed or (self._had_podman and not vitals.has_podman)
        if life.phase is Phase.API and not life.podman.is_bad:
            waited_s = time.monotonic() - self._waiting_since
            fails = keeps_failing(vitals, for_s=waited_s)
        if fails:
            return PodmanHealth.FAILING
        must_listen = life.phase in (Phase.API, Phase.UP) and waited_s >= _LISTENING_S * self._settings.time_scale
        if must_listen and not vitals.is_starting and not self._listens(vitals):
            return PodmanHealth.CLOSED
        return PodmanHealth.UNKNOWN

    def _listens(self, vitals: Vitals) -> bool:
        config = self._record.current.config
        return vitals.sockets >= {config.user_socket, config.root_socket}

    def _is_suspicious(self, vitals: Vitals) -> bool:
        """Return whether the brief answer shows signs of trouble, so that the guest has to be asked for all facts."""
        kills = self._kills is not None and vitals.oom_kills > self._kills
        fails = vitals.service_failed or (self._had_podman and not vitals.has_podman)
        return kills or fails or not self._listens(vitals)

    async def quiet_podman(self) -> None:
        """Close the connections of clients in the guest that wait for Podman, and try once to start Podman."""
        await self._run(self._words("quiet"), self._settings.script, timeout_s=_ANSWER_S)

    def _words(self, depth: str) -> list[str]:
        config = self._record.current.config
        return ["sh", "-s", "--", depth, config.username, str(config.uid)]

    async def _ask(self, *, is_full: bool) -> tuple[Vitals | None, float]:
        """Return the guest's answer or None, and how many seconds the guest's clock is ahead of this host's clock."""
        fails = self._life.current.podman is PodmanHealth.FAILING
        depth = "try" if fails else "full" if is_full else "brief"
        began = time.time()
        self._is_silent = False
        output = await self._run(self._words(depth), self._settings.script, timeout_s=_ANSWER_S)
        ended = time.time()
        vitals = parse_vitals(output) if output is not None else None
        if vitals is None or vitals.clock is None:
            return vitals, 0.0
        # The guest has read its clock at some time between the two.
        return vitals, vitals.clock - min(max(vitals.clock, began), ended)

    @property
    def _may_grow(self) -> bool:
        """Whether `machine set` may have grown the disk, and the guest has not been told so yet.

        A guest is usually told when it is up. A guest whose disk is full cannot come up.
        """
        outdated = self._record.current.pending.guest_outdated
        return outdated and self._life.current.start_pending and not self._has_grown

    async def _grow(self) -> None:
        """Grow the root file system to the size of its disk, and count Podman's failures anew."""
        self._has_grown = True
        await self._run(["bash", "-s"], self._settings.grow, timeout_s=_GROW_S)
        self._waiting_since = time.monotonic()

    async def _run(self, words: Sequence[str], script: str, *, timeout_s: float) -> str | None:
        """Run a script in the guest, and return its output. If the script fails or takes too long, return None."""
        if self._settings.ssh is None:
            return None
        try:
            completed = await async_runner.run(
                self._settings.ssh(shlex.join(words)),
                timeout_s=timeout_s * self._settings.time_scale,
                stdin=script,
                logged=False,
            )
        except MachineError as error:
            log.debug("the guest does not tell its state: %s", error.message)
            self._is_silent = isinstance(error, DeadlineError)
            return None
        return completed.stdout
