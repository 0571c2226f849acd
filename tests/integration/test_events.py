"""What podman machine's listeners hear, on real sockets."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.disk_images import Images
from tests.support.world import make_world


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.settimeout(10)
        listener.bind(str(path))
        listener.listen(20)
        yield listener


def heard(listener: socket.socket) -> dict[str, Any]:
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(10)
        data = b""
        while chunk := connection.recv(4096):
            data += chunk
    document: dict[str, Any] = json.loads(data)
    return document


@pytest.mark.linux("a Mac has no XDG_RUNTIME_DIR")
def test_every_listener_hears_what_happens_to_machines(short_path: Path, images: Images) -> None:
    world = make_world(short_path / "w")
    world.extra["XDG_RUNTIME_DIR"] = str(short_path / "run")
    (short_path / "run").mkdir(mode=0o700)
    with ExitStack() as stack:
        paths = [short_path / "run" / "podman" / name for name in ("machine_events.sock", "deep/machine_events_2.sock")]
        listeners = [stack.enter_context(listening(path)) for path in paths]
        # Neither one that nobody listens on any more, nor a file, is in the way.
        with listening(short_path / "run" / "podman" / "machine_events.0.sock"):
            pass
        (short_path / "run" / "podman" / "machine_events.file.sock").touch()
        told = world.machine("info", "--format", "{{.Host.EventsDir}}").stdout
        assert told == f"{short_path / 'run' / 'podman'}\n"
        world.init("box", images.qcow2)
        for words in (("stop", "box"), ("clone", "box", "twin"), ("set", "--cpus", "1", "box"), ("rm", "-f", "twin")):
            assert world.machine(*words).status == 0
        for listener in listeners:
            events = [heard(listener) for _ in range(4)]
            moments = [datetime.fromisoformat(event.pop("Time")) for event in events]
            assert moments == sorted(moments)
            assert datetime.now(UTC) - moments[0] < timedelta(minutes=2)
            assert events == [
                {"Name": name, "Status": status, "Type": "machine", "Attributes": None}
                for name, status in (("box", "init"), ("box", "stop"), ("twin", "init"), ("twin", "remove"))
            ]


def test_variable_names_the_one_listener(short_path: Path, images: Images) -> None:
    world = make_world(short_path / "w")
    with listening(short_path / "my.sock") as listener:
        world.extra["PODMAN_MACHINE_EVENTS_SOCK"] = str(short_path / "my.sock")
        world.init("box", images.qcow2)
        assert heard(listener)["Status"] == "init"
    gone = world.machine("stop", "box")
    assert (gone.status, gone.stdout) == (0, 'Machine "box" stopped successfully\n')
    assert "my.sock" in gone.stderr
    assert world.machine("stop", "nosuch").status == 125


def test_command_that_fails_tells_nobody_anything(short_path: Path) -> None:
    world = make_world(short_path / "w")
    with listening(short_path / "my.sock") as listener:
        listener.setblocking(False)
        world.extra["PODMAN_MACHINE_EVENTS_SOCK"] = str(short_path / "my.sock")
        assert world.machine("rm", "-f", "nosuch").status == 125
        assert world.machine("init", "--image", "/nonexistent", "box").status == 125
        try:
            listener.accept()
        except BlockingIOError:
            return
        raise AssertionError
