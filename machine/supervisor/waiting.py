"""The process that waits for clients while a machine is asleep, and wakes the machine for the first of them.

It runs as `python -m machine.supervisor.waiting NAME`. The supervisor of a machine that has been suspended becomes this
process, which needs less memory. `machine start --on-demand` spawns it for a machine that boots for its first client.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from typing import NoReturn

from machine import async_runner, control, lock, sockets
from machine.control import Command
from machine.deadline import Deadline
from machine.errors import EXIT_ERROR, EXIT_OK, MachineError
from machine.model.state import MachineState, State
from machine.store import records
from machine.store.paths import MachinePaths, Roots, find_roots, is_suspended, make_private
from machine.store.settings import load_patience
from machine.supervisor.carry import carry_all
from machine.supervisor.doors import Doors, places
from machine.supervisor.kept_doors import KeptDoors
from machine.supervisor.log import log_to
from machine.this_host import current_host, own_python

log = logging.getLogger(__name__)

MODULE = "machine.supervisor.waiting"

_PROGRAM = "from machine.cli.entry import main; main()"
# A start has its own deadlines, which end it much sooner.
_START_S = 24 * 3600.0
# No snapshot takes longer. The disk keeps what it has, so only small files are written.
_SNAPSHOT_S = 300.0
# Commands that change a machine that is asleep hold its lock for a shorter time.
_LOCK_S = 5.0
_POLL_S = 0.1
# A supervisor that somebody else has started takes over within this time.
_OTHER_START_S = 60.0
# A `machine start` whose supervisor has ended says why, and ends as well.
_LAST_WORDS_S = 60.0
# Clients that come again and again must not have a machine started without a pause that cannot start.
_PAUSE_S = 10.0


def main() -> int:
    parser = argparse.ArgumentParser(prog=MODULE)
    parser.add_argument("name")
    parser.add_argument("--on-demand", action="store_true", help="wait also if the machine is stopped")
    parser.add_argument("--lock", type=int, help="the descriptor of the lock that this process holds already")
    parser.add_argument(
        "--listener", action="append", default=[], help="DESCRIPTOR=PLACE, where this process listens already"
    )
    arguments = parser.parse_args()
    os.chdir("/")
    roots = find_roots(os.environ, current_host().os, os.getuid())
    paths = roots.machine(arguments.name)
    log_to(paths)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    descriptor = _take_lock(paths) if arguments.lock is None else arguments.lock
    if descriptor is None:
        log.info("another process waits for clients already")
        return EXIT_OK
    os.set_inheritable(descriptor, False)
    inherited = _inherited(arguments.listener)
    try:
        asyncio.run(wait(roots, arguments.name, descriptor, on_demand=arguments.on_demand, inherited=inherited))
    except (MachineError, OSError) as error:
        log.error("no longer waits for clients: %s", error)
        return EXIT_ERROR
    return EXIT_OK


def _take_lock(paths: MachinePaths) -> int | None:
    descriptor = lock.acquire(paths.waiting_lock, timeout_s=_LOCK_S)
    if descriptor is not None:
        lock.write_holder(descriptor, os.getpid())
    return descriptor


def _inherited(listeners: Sequence[str]) -> dict[str, socket.socket]:
    """Return the sockets on which this process listens already, by what their places are written as."""
    found = {}
    for text in listeners:
        number, _, place = text.partition("=")
        found[place] = socket.socket(fileno=int(number))
        found[place].set_inheritable(False)
    return found


def become_waiting(name: str, paths: MachinePaths, kept: KeptDoors) -> NoReturn:
    """Make this process the one that waits for clients of a machine, which has been suspended.

    It has the lock of that process before it gives up the machine's, so that a start always finds it.
    """
    argv = [own_python(), "-P", "-m", MODULE]
    descriptor = _take_lock(paths)
    if descriptor is not None:
        os.set_inheritable(descriptor, True)
        listeners = [f"--listener={number}={place}" for number, place in kept.pass_on().items()]
        argv += [f"--lock={descriptor}", *listeners]
    argv += ["--", name]
    os.execv(argv[0], argv)  # noqa: S606  (there is no shell)


async def wait(
    roots: Roots,
    name: str,
    descriptor: int,
    *,
    on_demand: bool,
    inherited: dict[str, socket.socket] | None = None,
) -> None:
    """Wait for clients until the machine is awake or does not sleep any more. After a failed start, wait again.

    `inherited` are the sockets of a machine that has just been suspended, on which this process listens already.
    """
    paths = roots.machine(name)
    inherited = inherited or {}
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    reason: str | None = None
    with contextlib.suppress(asyncio.CancelledError):
        # A start may have the machine's lock already. It takes over from this process.
        while inherited or await _is_asleep(paths, on_demand=on_demand):
            waiting = Waiting(paths, name, reason, inherited, patience=_patience(roots))
            async with waiting.answering():
                if reason:
                    await waiting.open_after_pause()
                reason = await waiting.outcome
                if reason is None:
                    waiting.doors.close()
                    os.close(descriptor)  # the next sleep has its own process
            if reason is None:
                await asyncio.gather(carry_all(waiting.doors.visitors), waiting.starts())
                return


def _patience(roots: Roots) -> int:
    """Return how many times as long as usual a start may take. If that is not known, a start will say why."""
    try:
        return load_patience(roots, current_host(), os.environ)
    except MachineError as error:
        log.info("the usual deadlines are used: %s", error.line)
        return 1


async def _is_asleep(paths: MachinePaths, *, on_demand: bool) -> bool:
    """Return whether clients are to wake the machine, which neither runs nor is being started."""
    for _ in range(int(_LOCK_S / _POLL_S)):
        if not lock.is_held(paths.lock):
            return on_demand or is_suspended(paths)
        await asyncio.sleep(_POLL_S)
    # A start ends a QEMU whose supervisor was killed, and loads the memory again.
    return is_suspended(paths) and not lock.is_held(paths.supervisor_lock)


class Waiting:
    """Waits until the machine is up, whoever starts it, and starts it itself when the first client comes.

    `reason` says why the last start failed. `patience` is how many times as long as usual a start may take.
    """

    def __init__(
        self,
        paths: MachinePaths,
        name: str,
        reason: str | None,
        inherited: dict[str, socket.socket],
        *,
        patience: int = 1,
    ) -> None:
        self._patience = patience
        self._inherited = inherited
        self._paths = paths
        self._name = name
        self._reason = reason
        self._start: asyncio.Task[None] | None = None
        self._supervisors = 0
        """How many supervisors have taken over, which is one at most while all is well."""

        self._problem = "its start has failed"
        self.doors = Doors(self._begin_start)
        self.outcome: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        """The reason why a start has failed, or None if the machine is up."""

    @contextlib.asynccontextmanager
    async def answering(self) -> AsyncIterator[None]:
        """Answer other processes during the block. If the machine is not up at the end, hang up on all clients.

        Listen for clients before that, unless a start has just failed.
        """
        make_private(self._paths.runtime)
        if not self._reason:
            self.open()
        server = await sockets.serve_unix(self._answer, self._paths.waiting_socket)
        try:
            yield
        finally:
            server.close()
            self._paths.waiting_socket.unlink(missing_ok=True)
            if not self._is_awake:
                self.doors.shut()

    def open(self) -> None:
        """Listen for clients."""
        make_private(self._paths.runtime)
        config = records.load_file(self._paths.record).config
        wanted = places(self._paths, config.forwards, config.ssh_port, sleeps=is_suspended(self._paths))
        self.doors.open(wanted, self._inherited)
        for place, listener in self._inherited.items():
            log.warning("clients of %s are not waited for any more", place)
            listener.close()
        self._inherited.clear()

    async def open_after_pause(self) -> None:
        """Listen for clients some time after a start has failed, unless somebody has started the machine meanwhile."""
        await asyncio.wait([self.outcome], timeout=_PAUSE_S)
        if not self._is_taken_over:
            self.open()

    @property
    def _is_awake(self) -> bool:
        return self.outcome.done() and not self.outcome.cancelled() and self.outcome.result() is None

    @property
    def _is_taken_over(self) -> bool:
        return self._supervisors > 0 or self.outcome.done()

    async def starts(self) -> None:
        """Wait until the `machine start` has ended that this process has run, if there is one."""
        if self._start:
            await self._start

    def _begin_start(self) -> None:
        if self._start is None and not self._supervisors:
            log.info("starting the machine for a client")
            self._start = asyncio.create_task(self._run_start())

    async def _run_start(self) -> None:
        """Run `machine start`. If it fails, and no other start is under way, the machine has not been woken.

        If a snapshot is being taken, wait until it is complete. Its command may start the machine itself.
        """
        snapshot = Deadline.after(_SNAPSHOT_S, "a snapshot")
        while lock.is_held(self._paths.snapshot_lock) and not (self._is_taken_over or snapshot.passed):
            await asyncio.sleep(_POLL_S)
        if self._is_taken_over:
            return
        argv = [own_python(), "-P", "-c", _PROGRAM, "start", "--quiet", "--", self._name]
        try:
            done = await async_runner.run(argv, timeout_s=_START_S, check=False)
            # After its error come details.
            errors = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
            self._problem = errors[-1].removeprefix("Error: ") if errors else self._problem
        except MachineError as error:
            self._problem = error.line
        deadline = Deadline.after(_OTHER_START_S * self._patience, "another start")
        while not self._supervisors and lock.is_held(self._paths.supervisor_lock) and not deadline.passed:
            await asyncio.sleep(_POLL_S)
        if not self._supervisors:
            self._fail()

    def _fail(self) -> None:
        if not self.outcome.done():
            log.warning("the machine was not woken: %s", self._problem)
            self.outcome.set_result(self._problem)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        supervises = False
        try:
            while line := await reader.readline():
                request = json.loads(line)
                command = Command(request["command"])
                if command is Command.TAKE_OVER and not supervises:
                    supervises = True
                    self._supervisors += 1
                writer.write(control.encode({"ok": self._carry_out(command, request["value"])}))
                await writer.drain()
        except (OSError, ValueError, KeyError) as error:
            log.info("control: %s", error)
        finally:
            writer.close()
            if supervises:
                await self._note_end_of_supervisor()

    async def _note_end_of_supervisor(self) -> None:
        """Note that a supervisor has hung up. If the machine is not up, its start has failed."""
        self._supervisors -= 1
        if self._start:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._start), _LAST_WORDS_S * self._patience)
        self._fail()

    def _carry_out(self, command: Command, value: str) -> dict[str, object]:
        match command:
            case Command.STATUS:
                return control.encode_state(self._state)
            case Command.TAKE_OVER:
                return {"places": [str(place) for place in self.doors.places]}
            case Command.RELEASE:
                self.doors.release(value)
            case Command.AWAKE:
                if not self.outcome.done():
                    self.outcome.set_result(None)
            case _:
                raise ValueError(f"{command} is not for a process that waits for clients")
        return {}

    @property
    def _state(self) -> MachineState:
        state = State.SUSPENDED if is_suspended(self._paths) else State.STOPPED
        if self._reason:
            return MachineState(state=state, reason=f"a client could not wake it: {self._reason}")
        return MachineState(state=state, reason=None if state is State.SUSPENDED else "starts for its first client")


if __name__ == "__main__":
    sys.exit(main())
