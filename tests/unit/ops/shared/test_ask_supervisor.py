"""What a command says when a machine's supervisor refuses it."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from machine import control, lock
from machine.control import Command
from machine.errors import MachineError
from machine.ops.shared import ask_supervisor as ask_supervisor_module
from machine.ops.shared.ask_supervisor import ask_supervisor
from tests.support.builders import make_record, make_roots, save_machine
from tests.support.waiting import WAIT_S


def answer_of(error: MachineError, directory: Path) -> MachineError:
    """Return the error of a command whose supervisor answers with `error`."""
    paths = save_machine(make_roots(directory), make_record())
    paths.control_socket.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(paths.control_socket))
        listener.listen()

        def serve() -> None:
            for _ in range(2):  # the first asks whether the supervisor answers
                connection, _ = listener.accept()
                with connection:
                    connection.recv(control.MAX_LINE_BYTES)
                    connection.sendall(control.encode_error(error))

        server = threading.Thread(target=serve)
        server.start()
        with pytest.raises(MachineError) as caught:
            ask_supervisor("box", Command.PORT_ADD, "8080:80", paths, timeout_s=WAIT_S)
        server.join(WAIT_S)
    return caught.value


def test_supervisor_of_an_older_program_is_to_be_restarted_and_not_upgraded(short_path: Path) -> None:
    told = MachineError("record.json was written by a newer version of this program (…)", hint="upgrade boot2podman")
    error = answer_of(told, short_path)
    assert error.line == (
        "box still runs under an older version of this program, which cannot read the record; "
        "restart the machine: machine restart box"
    )
    assert error.details == (told.message,)


def test_supervisor_that_was_stopped_is_not_waited_for(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ask_supervisor_module, "_STATUS_S", 0.1)
    paths = save_machine(make_roots(short_path), make_record())
    paths.control_socket.parent.mkdir(parents=True, exist_ok=True)
    holder = lock.acquire(paths.supervisor_lock)
    assert holder is not None
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(paths.control_socket))
        listener.listen()
        with pytest.raises(MachineError) as caught:
            ask_supervisor("box", Command.PORT_ADD, "8080:80", paths, timeout_s=WAIT_S)
    os.close(holder)
    assert caught.value.line == (
        "the supervisor of box does not answer; try again, or stop the machine with: machine stop box"
    )


def test_other_refusals_are_passed_on(short_path: Path) -> None:
    assert answer_of(MachineError("no", hint="do this"), short_path).line == "no; do this"
