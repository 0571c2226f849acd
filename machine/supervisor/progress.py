"""Send a supervisor's reports to the commands that wait for them, as JSON lines (see machine.control)."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from machine import control
from machine.errors import MachineError

log = logging.getLogger(__name__)

Sink = Callable[[bytes], None]


class ProgressBroadcaster:
    """Sends reports to all sinks and to the log. The last report is `ok` or `error`."""

    def __init__(self) -> None:
        self._sinks: list[Sink] = []

    def add(self, sink: Sink) -> None:
        self._sinks.append(sink)

    def step(self, text: str) -> None:
        log.info("%s", text)
        self._send(control.encode({"step": text}))

    def notice(self, text: str) -> None:
        log.warning("%s", text)
        self._send(control.encode({"notice": text}))

    def ok(self, **result: str) -> None:
        self._send(control.encode({"ok": result}))
        self._sinks.clear()

    def error(self, error: MachineError) -> None:
        log.error("%s", error.line)
        for detail in error.details:
            log.error("  %s", detail)
        self._send(control.encode_error(error))
        self._sinks.clear()

    def _send(self, line: bytes) -> None:
        for sink in self._sinks:
            sink(line)


def pipe_sink(descriptor: int) -> Sink:
    """Return a sink that writes to a pipe. It is no error if nobody reads the pipe any more."""

    def write(line: bytes) -> None:
        try:
            os.write(descriptor, line)
        except OSError as error:
            log.debug("the command that waits has ended: %s", error)

    return write
