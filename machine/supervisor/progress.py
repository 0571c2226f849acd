"""Send a supervisor's reports to the commands that wait for them, as JSON lines (see machine.control)."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from machine import control
from machine.errors import MachineError
from machine.model.record import MachineRecord
from machine.sockets import has_hung_up

log = logging.getLogger(__name__)

Sink = Callable[[bytes], None]


class ProgressBroadcaster:
    """Sends reports to the log and to all commands that wait for them. The last report is `ok` or `error`."""

    def __init__(self) -> None:
        self._sinks: list[Sink] = []
        self._pipes: list[ReportPipe] = []

    def add(self, sink: Sink) -> None:
        self._sinks.append(sink)

    def add_pipe(self, pipe: ReportPipe) -> None:
        self._pipes.append(pipe)
        self.add(pipe.write)

    @property
    def has_reader(self) -> bool:
        """Whether a command still reads from one of the pipes. It may have read the last report already."""
        return any(pipe.has_reader for pipe in self._pipes)

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


class ReportPipe:
    """The pipe from which `machine start` reads reports. When `machine start` ends, its end of the pipe closes."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, line: bytes) -> None:
        try:
            os.write(self._descriptor, line)
        except OSError as error:
            log.debug("the command that waits has ended: %s", error)

    @property
    def has_reader(self) -> bool:
        return not has_hung_up(self._descriptor)


def boot_step(record: MachineRecord) -> str:
    """Return the step that a start reports while the guest boots."""
    if record.guest.provisioned:
        return "Booting the guest"
    downloads = record.config.provisioning.download_s > 0
    return f"Booting the guest for the first time{', which installs Podman if it is missing' if downloads else ''}"


def sentence(text: str) -> str:
    """Return a phrase with a capital letter, as a notice begins."""
    return text[:1].upper() + text[1:]
