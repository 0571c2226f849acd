"""The input of a guest's console, in a FIFO that QEMU reads."""

from __future__ import annotations

import fcntl
import os
import termios
from pathlib import Path

import pytest

from machine.ops.console import _Relay
from tests.support.builders import make_paths


def test_input_that_qemu_has_not_read_is_not_delivered_even_where_the_writing_end_does_not_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS, where a FIFO's writing end always has 0 bytes to read."""
    asked = fcntl.ioctl

    def ioctl(descriptor: int, request: int, argument: bytes) -> bytes:
        writes = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
        return bytes(4) if writes and request == termios.FIONREAD else asked(descriptor, request, argument)

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    fifo = tmp_path / "console.in"
    os.mkfifo(fifo)
    qemu, far_end = (os.open(fifo, os.O_RDONLY | os.O_NONBLOCK) for _ in range(2))
    console = os.open(fifo, os.O_WRONLY)
    log = tmp_path / "serial.log"
    log.touch()
    with log.open("rb") as stream:
        relay = _Relay(console, far_end, stream, make_paths(tmp_path), escape=None)
        relay._input_ended = True
        os.write(console, b"hello")
        assert not relay._has_delivered()
        assert os.read(qemu, 5) == b"hello"
        assert relay._has_delivered()
    for descriptor in (qemu, far_end, console):
        os.close(descriptor)
