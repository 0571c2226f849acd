"""What watches a machine whose guest is a host that is reached over SSH."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shlex
from collections.abc import Awaitable, Callable
from functools import partial

from machine import async_runner
from machine.async_runner import PIPE
from machine.errors import MachineError
from machine.ignition import assets
from machine.model.provider import RootAccess
from machine.podman.api import container_events, container_ports
from machine.ports.forwarding import Forwarding
from machine.ports.watched import WatchedPorts
from machine.providers.login import root_command, supervisors_login
from machine.supervisor.assignment import Assignment
from machine.supervisor.clock import HostClock
from machine.supervisor.events import HostClockJumped
from machine.supervisor.intervals import Intervals
from machine.supervisor.phases import Phase
from machine.supervisor.progress import ProgressBroadcaster
from machine.supervisor.tracker import LifeTracker

log = logging.getLogger(__name__)

_RETRY_S = 1.0
_LIST_S = 60.0


def watching_remote(
    assignment: Assignment,
    life: LifeTracker,
    ports: Forwarding,
    starting: ProgressBroadcaster,
    intervals: Intervals,
) -> list[Callable[[], Awaitable[None]]]:
    """Return the tasks that watch a remote host, as long as its machine runs."""
    config = assignment.record.config
    # If root logs in, both sockets lead to the same Podman.
    sockets = {there: here for here, there in assignment.api_sockets.items()}.values()
    watched = WatchedPorts(
        ports,
        [partial(container_ports, socket, timeout_s=_LIST_S) for socket in sockets],
        [partial(container_events, socket) for socket in sockets],
        is_up=lambda: life.current.phase is Phase.UP,
        on_notice=starting.notice,
        every_s=intervals.guest_s,
    )
    tasks: list[Callable[[], Awaitable[None]]] = [
        watched.watch,
        partial(_watch_host_clock, life, every_s=intervals.heartbeat_s),
    ]
    if config.remote and config.remote.root_access is RootAccess.SUDO:
        tasks.append(partial(_keep_root_socket, assignment, life))
    return tasks


async def _watch_host_clock(life: LifeTracker, *, every_s: float) -> None:
    """Check at intervals whether this host has slept, after which connections may be lost. This never returns."""
    clock = HostClock()
    while True:
        await asyncio.sleep(every_s)
        if clock.has_jumped():
            life.post(HostClockJumped())


async def _keep_root_socket(assignment: Assignment, life: LifeTracker) -> None:
    """Have root's Podman listen on a socket that the user who logs in may use, while there is an SSH master.

    On the host, this ends with the connection. This never returns.
    """
    config, paths = assignment.record.config, assignment.paths
    words = ["sh", "-c", assets.load("files/root-socket.sh"), "sh", config.root_socket, config.username]
    argv = root_command(config, supervisors_login(config, paths), paths.ssh_control, shlex.join(words))
    while True:
        if life.current.phase.is_after_ssh:
            with contextlib.suppress(MachineError, OSError):
                async with await async_runner.spawn(argv, stdin=PIPE, stderr=PIPE) as child:
                    assert child.stderr is not None
                    said = await child.stderr.read()
                    log.info("root's Podman on the host has ended: %s", said.decode(errors="replace").strip())
        await asyncio.sleep(_RETRY_S)
