"""The protocol between a machine's supervisor and its clients. Each line is one JSON object.

The protocol is used over a Unix socket or a pipe. A client sends one `{"command": …, "value": …}`. The answer
is any number of `{"step": …}` and `{"notice": …}` lines and, last, `{"ok": {…}}` or
`{"error": {"message", "details", "hint"}}`.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Any

from machine import __version__
from machine.errors import DeadlineError, GuestError, MachineError, Page, page_of
from machine.model.state import MachineState, State
from machine.report import Reporter, SilentReporter

MAX_LINE_BYTES = 64 * 1024


class Command(StrEnum):
    STATUS = "status"
    STOP = "stop"
    SUSPEND = "suspend"
    """Save the guest's memory, and end QEMU."""

    QUIT = "quit"
    """End QEMU at once, without shutting the guest down."""

    PORT_ADD = "port-add"
    """Open a forward, and add it to the record. `value` is the forward as model.ports.parse_forward reads it."""

    PORT_REMOVE = "port-remove"
    PORT_LIST = "port-list"

    MOUNT_ADD = "mount-add"
    """Mount a folder, and add it to the record. `value` is the folder as model.folders.read_folder reads it."""

    MOUNT_REMOVE = "mount-remove"
    """Unmount a folder, and remove it from the record. `value` is the folder's target in the guest."""

    MOUNT_LIST = "mount-list"

    # To the process that waits for clients while its machine is asleep, besides STATUS

    TAKE_OVER = "take-over"
    """Tell that the machine is about to start. The answer names the `endpoints` on which the process listens."""

    RELEASE = "release"
    """Stop listening on the endpoint in `value`, but keep the clients that have come."""

    AWAKE = "awake"
    """Carry all clients that have come, because the machine is up. This ends the process."""


def encode(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def encode_error(error: MachineError) -> bytes:
    fields = {"message": error.message, "details": list(error.details), "hint": error.hint, "page": page_of(error)}
    return encode({"error": fields})


def follow(lines: Iterable[bytes], report: Reporter) -> dict[str, Any] | None:
    """Read a supervisor's answer, pass its steps and notices on to `report`, and return its result.

    Return None if the lines end without a result.

    Raises:
        GuestError: the supervisor reports an error.
    """
    for line in lines:
        match json.loads(line):
            case {"step": str(text)}:
                report.step(text)
            case {"notice": str(text)}:
                report.notice(text)
            case {"ok": dict(result)}:
                return result
            case {"error": {"message": str(text), "details": list(details), "hint": hint, **more}}:
                raise GuestError(text, details=details, hint=hint, page=_page(more.get("page")))
            case _:
                continue
    return None


def _page(word: object) -> Page | None:
    """Return the entry that a supervisor names. Supervisors of other versions may name none, or one unknown here."""
    return next((page for page in Page if page == word), None)


def request(
    path: Path, command: Command, value: str = "", *, timeout_s: float, report: Reporter | None = None
) -> dict[str, Any]:
    """Send one command to a supervisor, and return the result in its answer.

    Each line of the answer has to arrive within `timeout_s` seconds after the previous line.

    Raises:
        OSError: no supervisor listens on `path`.
        DeadlineError: the supervisor does not answer in time.
        GuestError: the supervisor answers with an error, or ends without an answer.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        try:
            connection.connect(str(path))
            connection.sendall(encode({"command": command, "value": value}))
            with connection.makefile("rb") as lines:
                result = follow(lines, report or SilentReporter())
        except TimeoutError as error:
            raise DeadlineError(f"the supervisor did not answer {command} within {timeout_s:.0f} s") from error
    if result is None:
        raise GuestError("the supervisor ended without an answer")
    return result


def encode_state(state: MachineState) -> dict[str, Any]:
    """Return the supervisor's answer to STATUS, with the version of the program that the supervisor runs."""
    return {
        "state": state.state,
        "reason": state.reason or "",
        "remedy": state.remedy or "",
        "connected": state.connected,
        "version": __version__,
    }


def decode_state(answer: dict[str, Any]) -> MachineState:
    """Read a supervisor's answer to STATUS.

    If the supervisor has no problem, but runs another version of this program, the state's reason says so.

    Raises:
        ValueError: the state is unknown.
        KeyError: there is no state.
    """
    state, version = State(answer["state"]), answer.get("version")
    reason = answer.get("reason") or None
    if state is State.RUNNING and reason is None and version != __version__:
        reason = f"under version {version or 'unknown'} of this program; a restart changes to {__version__}"
    remedy = answer.get("remedy") or None  # older versions send none
    return MachineState(state=state, reason=reason, remedy=remedy, connected=answer.get("connected", True))


def query_state(path: Path, *, timeout_s: float = 2) -> MachineState | None:
    """Return the state that the supervisor reports, or None if no supervisor answers."""
    try:
        return decode_state(request(path, Command.STATUS, timeout_s=timeout_s))
    except (OSError, MachineError, ValueError, KeyError):
        return None
