"""The supervisor's QMP sessions with QEMU, and the serial port on which the guest reports that it is ready."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import shutil
import time

from qemu.qmp import EventListener, QMPError, Runstate

from machine.errors import MachineError
from machine.model.ports import Driver
from machine.ports.forwarding import Forwarding
from machine.qemu import monitor
from machine.qemu.monitor import Monitor
from machine.store.paths import MachinePaths
from machine.store.suspension import drop_memory, drop_suspension, stands_still
from machine.supervisor.clock import HostClock
from machine.supervisor.events import (
    GuestFailed,
    GuestReady,
    GuestReset,
    HostClockJumped,
    PauseCause,
    Paused,
    QemuAnswered,
    QemuSilent,
    QemuUp,
    Resumed,
)
from machine.supervisor.record import RecordKeeper
from machine.supervisor.tracker import LifeTracker

log = logging.getLogger(__name__)

_GREETING_RETRY_S = 0.05
_GREETING_S = 5.0
# An emulated guest with several CPUs reports one reboot up to three times within a tenth of a second.
_RESET_BURST_S = 1.0

_FAREWELL_S = 5.0
# A QEMU that is ending may close one socket sooner than the other.
_LAST_BREATH_S = 1.0
MIN_FREE_BYTES = 64 * 1024**2
"""With less free space, a guest that a full disk has stopped would stop again at once."""

_EVENTS = ("RESET", "SHUTDOWN", "STOP", "RESUME")

# The errors that end a session, or a command of the session, when QEMU hangs up.
_HUNG_UP = (EOFError, OSError, QMPError)


class QmpLink:
    """Holds the current QMP session, so that other parts of the supervisor can send commands to QEMU."""

    def __init__(self) -> None:
        self.client: Monitor | None = None
        """None while there is no session."""

        self.is_settled = asyncio.Event()
        """Set unless QEMU is loading a saved memory, during which it answers late."""

        self.is_settled.set()

    def session(self) -> Monitor:
        """Return the current QMP session.

        Raises:
            MachineError: there is no session.
        """
        if self.client is None:
            raise MachineError("there is no connection to QEMU's monitor")
        return self.client

    async def human_command(self, line: str) -> str:
        """Run a command line in QEMU's human monitor, and return the command's output.

        Raises:
            MachineError: QEMU does not answer, or no session is open.
        """
        return await monitor.human_command(self.session(), line)


async def let_run(client: Monitor, paths: MachinePaths) -> None:
    """Let a guest run that stands still for its memory.

    The saved memory is removed before the guest runs, because it would no longer fit the disk.

    Raises:
        MachineError: the memory cannot be removed, or QEMU rejects the command or does not answer.
    """
    await asyncio.to_thread(drop_memory, paths)
    await monitor.execute(client, "cont")
    await asyncio.to_thread(drop_suspension, paths)


class QmpSessions:
    """Keeps a QMP session with QEMU, and turns what QEMU and the guest report into events.

    QEMU serves one session at a time.
    """

    def __init__(
        self,
        link: QmpLink,
        *,
        paths: MachinePaths,
        life: LifeTracker,
        record: RecordKeeper,
        ports: Forwarding,
        heartbeat_s: float,
        patience: int,
    ) -> None:
        self._patience = patience
        self._link = link
        self._paths = paths
        self._life = life
        self._record = record
        self._ports = ports
        self._heartbeat_s = heartbeat_s

    async def run(self) -> None:
        """Hold one QMP session after another. This never returns."""
        while True:
            await self._hold_session()
            log.info("QEMU has hung up")
            self._life.post(QemuSilent())

    async def _hold_session(self) -> None:
        """Connect to QEMU, and hold the QMP session until QEMU closes the connection."""
        client = Monitor(patience=self._patience)
        client.logger.addFilter(_demoted)
        listener = EventListener(_EVENTS)
        client.register_listener(listener)
        await self._connect(client)
        self._link.client = client
        try:
            await self._attend(client, listener)
        finally:
            self._link.client = None
            with contextlib.suppress(*_HUNG_UP, TimeoutError):
                async with asyncio.timeout(_FAREWELL_S):  # a QEMU that is stopped reads nothing
                    await client.disconnect()

    async def _attend(self, client: Monitor, listener: EventListener) -> None:
        """Read what QEMU and the guest report, and post it as events, until QEMU closes the connection."""
        self._life.post(QemuUp())
        self._life.post(QemuAnswered())
        # Ports that another process has given up must not stay closed for as long as QEMU loads the memory.
        await self._link.is_settled.wait()
        await self._ports.on_driver_up(Driver.SLIRP)
        async with asyncio.TaskGroup() as session:
            readers = [
                session.create_task(self._read_events(client, listener)),
                session.create_task(self._read_ready_port()),
                session.create_task(self._watch_heartbeat(client)),
            ]
            while client.runstate is Runstate.RUNNING:
                await client.runstate_changed()
            for task in readers:
                task.cancel()

    async def _connect(self, client: Monitor) -> None:
        """Connect as soon as QEMU listens.

        The wait ends at the latest when the phase's deadline passes or QEMU exits.
        """
        while True:
            if self._paths.qmp_socket.exists():
                try:
                    async with asyncio.timeout(_GREETING_S * self._patience):
                        return await client.connect(os.fspath(self._paths.qmp_socket))
                except (QMPError, OSError, TimeoutError) as error:
                    log.debug("QMP: %s", error)
            await asyncio.sleep(_GREETING_RETRY_S)

    async def _watch_heartbeat(self, client: Monitor) -> None:
        """Check at intervals whether QEMU answers, a full disk has stopped the guest, or the host has slept."""
        clock = HostClock()
        while True:
            await asyncio.sleep(self._heartbeat_s)
            if clock.has_jumped():
                self._life.post(HostClockJumped())
            # Never cancelled, as a late answer of QEMU must still find a task that waits for it.
            question = asyncio.ensure_future(_query_status(client))
            answered, _ = await asyncio.wait([question], timeout=self._heartbeat_s)
            if not answered:
                self._life.post(QemuSilent())
            status = await question
            if status is None:
                return
            self._life.post(QemuAnswered())
            await self._handle_status(status, client)

    async def _handle_status(self, status: str, client: Monitor) -> None:
        is_left = status == monitor.STATUS_SAVED or (status == monitor.STATUS_PAUSED and stands_still(self._paths))
        if is_left and not self._life.current.stopping:
            await self._run_on(client)
        elif status == monitor.STATUS_DISK_FULL:
            self._life.post(Paused(cause=PauseCause.DISK_FULL))
            await self._resume_if_there_is_space(client)
        elif status == monitor.STATUS_PAUSED and self._life.current.pause is None:
            self._life.post(Paused())  # it was stopped before this session
        elif status == monitor.STATUS_RUNNING and self._life.current.pause is not None:
            self._life.post(Resumed())

    async def _run_on(self, client: Monitor) -> None:
        """Let a guest run on whose supervisor was killed while it saved the memory, or before a resumed guest ran."""
        with contextlib.suppress(MachineError):  # the next heartbeat tries again, or QEMU has ended
            await let_run(client, self._paths)

    async def _resume_if_there_is_space(self, client: Monitor) -> None:
        with contextlib.suppress(*_HUNG_UP):  # the next heartbeat tries again, or QEMU has ended
            if shutil.disk_usage(self._paths.directory).free > MIN_FREE_BYTES:
                await client.execute("cont")

    async def _read_events(self, client: Monitor, listener: EventListener) -> None:
        last_reset = -math.inf
        async for event in listener:
            log.debug("QMP event: %s %s", event["event"], event.get("data"))
            match event["event"]:
                case "RESET" if time.monotonic() - last_reset < _RESET_BURST_S:
                    pass
                case "RESET":
                    last_reset = time.monotonic()
                    await self._ports.on_guest_reset()
                    self._life.post(GuestReset())
                case "STOP":
                    is_full = await _query_status(client) == monitor.STATUS_DISK_FULL
                    self._life.post(Paused(cause=PauseCause.DISK_FULL if is_full else PauseCause.REQUESTED))
                case "RESUME":
                    self._life.post(Resumed())
                case _:
                    pass  # SHUTDOWN: QEMU's exit follows

    async def _read_ready_port(self) -> None:
        """Read the lines that the guest reports on its ready port, until QEMU closes the port."""
        try:
            reader, writer = await asyncio.open_unix_connection(self._paths.ready_socket)
        except OSError as error:
            await asyncio.sleep(_LAST_BREATH_S)  # the session's end ends this task
            log.error("the guest cannot report that it is ready: %s", error)
            return
        try:
            while line := await reader.readline():
                await self._handle_report(line.decode(errors="replace"))
        except (OSError, ValueError) as error:  # ValueError: the line is too long
            log.debug("ready port: %s", error)
        finally:
            writer.close()

    async def _handle_report(self, line: str) -> None:
        """Post the event that the guest reports in `line`.

        The line is `ready BOOT_ID` from boot2podman-ready.service, or `failed CAUSE` from cloud-init-finish.sh.
        """
        log.debug("ready port: %r", line)
        match line.split():
            case ["ready", boot_id]:
                await self._record.note_boot()
                self._life.post(GuestReady(boot_id=boot_id))
            case ["failed", *words]:
                self._life.post(GuestFailed(cause=" ".join(words)))
            case _:
                log.warning("unknown report on the ready port: %r", line)


def _demoted(record: logging.LogRecord) -> bool:
    """Lower the level of the library's errors, so that they are logged only for debugging.

    The library logs every error that it also raises, even an expected one when QEMU ends. When a task is cancelled, the
    library mistakes this for a bug of its own.
    """
    if record.levelno >= logging.ERROR:
        record.levelno, record.levelname = logging.DEBUG, logging.getLevelName(logging.DEBUG)
    return True


async def _query_status(client: Monitor) -> str | None:
    """Return the status of the guest's CPUs in QEMU's words. If QEMU closes the connection, return None."""
    try:
        answer = await client.execute("query-status")
    except _HUNG_UP as error:
        log.debug("the heartbeat ends with the QMP session: %s", error)
        return None
    return str(answer["status"]) if isinstance(answer, dict) else ""
