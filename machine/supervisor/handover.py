"""Take over from the process that waits for clients while a machine is asleep, when the machine starts."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from machine import control, lock
from machine.control import Command
from machine.deadline import Deadline
from machine.model.ports import Endpoint, SocketPath
from machine.store.paths import MachinePaths

log = logging.getLogger(__name__)

_ANSWER_S = 10.0
_END_S = 2.0
_POLL_S = 0.02


class Handover:
    """A connection to the process that waits for clients. It listens where the machine is going to listen.

    The process stops listening at one place after another, but keeps the clients that have come. When the machine is
    up, it connects these clients. If the connection ends before that, it hangs up on them.
    """

    def __init__(self, connection: socket.socket | None = None, paths: Collection[Path] = ()) -> None:
        self._connection = connection
        self._paths = paths
        self._lines = connection.makefile("rb") if connection else None
        self._places: set[str] = set()

    @classmethod
    def begin(cls, paths: MachinePaths) -> Handover:
        """Tell the process that the machine starts, if there is such a process. End one that does not answer."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(_ANSWER_S)
        try:
            if not _connect(connection, paths):
                connection.close()
                return cls()
            handover = cls(connection, (paths.waiting_socket,))
            handover._places.update(map(str, handover._ask(Command.TAKE_OVER)["places"]))
        except (OSError, ValueError, KeyError) as error:
            log.warning("the process that waits for clients does not answer, and is ended: %s", error)
            connection.close()
            lock.end_holder(paths.waiting_lock, patience_s=_END_S)
            return cls()
        return handover

    @property
    def is_needed(self) -> bool:
        """Whether there is a process from which the machine takes over."""
        return self._connection is not None

    def uses(self, path: Path) -> bool:
        """Return whether the process listens on a Unix socket at this path, or answers us there."""
        return self.is_needed and (path in self._paths or os.fspath(path) in self._places)

    def holds(self, place: Endpoint | SocketPath) -> bool:
        """Return whether the process still listens at a place."""
        return str(place) in self._places

    async def release(self, place: Endpoint | SocketPath) -> None:
        """Have the process stop listening at a place, so that the machine can listen there."""
        if self.holds(place):
            self._places.discard(str(place))
            await self._try(Command.RELEASE, str(place))

    async def finish(self) -> None:
        """Have the process connect its clients to the machine, which is up."""
        if self._connection:
            await self._try(Command.AWAKE)
            self.close()

    def close(self) -> None:
        """Hang up. If the machine is not up, this tells the process that the start has failed."""
        if self._connection:
            self._connection.close()
            self._connection = None
        if self._lines:
            self._lines.close()
            self._lines = None
        self._places.clear()

    async def _try(self, command: Command, value: str = "") -> None:
        try:
            await asyncio.to_thread(self._ask, command, value)
        except (OSError, ValueError, KeyError) as error:
            log.warning("the process that waits for clients does not answer: %s", error)
            self.close()

    def _ask(self, command: Command, value: str = "") -> dict[str, Any]:
        assert self._connection is not None
        assert self._lines is not None
        self._connection.sendall(control.encode({"command": command, "value": value}))
        answer: dict[str, Any] = json.loads(self._lines.readline())["ok"]
        return answer


def _connect(connection: socket.socket, paths: MachinePaths) -> bool:
    """Connect to the process that waits for clients, which may have just begun. Return whether there is one.

    Raises:
        OSError: the process does not listen.
    """
    deadline = Deadline.after(_ANSWER_S, "the process that waits for clients")
    while lock.is_held(paths.waiting_lock):
        try:
            connection.connect(os.fspath(paths.waiting_socket))
        except (FileNotFoundError, ConnectionRefusedError):
            if deadline.passed:
                raise
            time.sleep(_POLL_S)
        else:
            return True
    return False
