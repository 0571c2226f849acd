"""podman-connections.json with several writers, and Podman's own way of locking it."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
import time
from pathlib import Path

from machine.podman.connections import Connection, ConnectionsFile
from tests.support.disk_images import Images
from tests.support.world import World, make_world

ADD_TWENTY = """
import sys
from pathlib import Path
from machine.podman.connections import Connection, ConnectionsFile
for number in range(20):
    name = f"{sys.argv[2]}{number}"
    ConnectionsFile(Path(sys.argv[1])).add((Connection(name=name, uri=f"unix:///{name}"),))
"""


def writer(path: Path, prefix: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", ADD_TWENTY, path, prefix], stderr=subprocess.PIPE)


def test_two_writers_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "podman-connections.json"
    with writer(path, "a") as first, writer(path, "b") as second:
        errors = (first.communicate()[1], second.communicate()[1])
    assert (first.returncode, second.returncode, *errors) == (0, 0, b"", b"")
    names = {f"{prefix}{number}" for prefix in "ab" for number in range(20)}
    assert ConnectionsFile(path).uris().keys() == names
    assert ConnectionsFile(path).default() in ("a0", "b0")


def test_writer_waits_for_the_lock_that_podman_takes(tmp_path: Path) -> None:
    """containers/storage locks the whole file PATH.lock by fcntl."""
    path = tmp_path / "podman-connections.json"
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        with writer(path, "a") as waiting:
            time.sleep(0.7)
            assert waiting.poll() is None
            assert not path.exists()
            path.write_text(json.dumps({"Connection": {"Default": "p", "Connections": {"p": {"URI": "ssh://x"}}}}))
            fcntl.lockf(lock, fcntl.LOCK_UN)
            waiting.communicate()
    assert waiting.returncode == 0
    assert ConnectionsFile(path).default() == "p"
    assert len(ConnectionsFile(path).uris()) == 21


def test_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "podman-connections.json"
    connections = ConnectionsFile(path)
    connections.add((Connection(name="first", uri="unix:///first"),))
    with writer(path, "a") as process:
        while process.poll() is None:
            assert "first" in connections.uris()
        process.communicate()
    assert len(connections.uris()) == 21


def test_star_is_for_the_machine_that_podman_really_uses(podman_world: World, tmp_path: Path, images: Images) -> None:
    """Two homes with one containers.conf, as two homes of root's have /etc/containers."""
    one, two = podman_world, make_world(tmp_path / "second" / "w")
    two.link_tool("podman")
    two.extra = {"CONTAINERS_CONF": str(one.root / "containers.conf")}
    one.init("first", images.qcow2)
    two.init("second", images.qcow2)
    assert one.must("ls", "-q").stdout == "first*\n"
    assert two.must("ls", "-q").stdout == "second\n"
    assert two.machine("active").status == 125
    two.run("podman", "system", "connection", "default", "second")
    assert one.must("ls", "-q").stdout == "first\n"
    assert two.must("ls", "-q").stdout == "second*\n"
    assert two.must("active").stdout == "second\n"


def test_star_is_not_for_another_connection_of_the_machines_name(world: World, images: Images) -> None:
    world.init("box", images.qcow2)
    assert world.must("ls", "-q").stdout == "box*\n"
    path = world.root / "podman-connections.json"
    document = json.loads(path.read_bytes())
    document["Connection"]["Connections"]["box"] = {"URI": "ssh://elsewhere"}
    path.write_text(json.dumps(document))
    assert world.must("ls", "-q").stdout == "box\n"
    assert world.machine("active").status == 125


def test_old_podman_is_run_as_rarely_as_possible(podman_world: World, images: Images) -> None:
    """Each run takes a tenth of a second."""
    podman, log = podman_world.bin / "podman", podman_world.root / "log"
    real = podman.resolve()
    podman.unlink()
    podman.write_text(f'#!/bin/sh\necho "$*" >>{log}\nexec {real} "$@"\n')
    podman.chmod(0o755)
    podman_world.init("first", images.qcow2)
    assert [words.split()[:3] for words in sorted(_commands(log))] == [
        ["--version"],
        ["system", "connection", "add"],
        ["system", "connection", "add"],
    ]
    log.unlink()
    podman_world.init("second", images.qcow2)
    assert [words.split()[:3] for words in sorted(_commands(log))] == [
        ["--version"],
        ["system", "connection", "add"],
        ["system", "connection", "add"],
        ["system", "connection", "list"],
    ]


def _commands(log: Path) -> list[str]:
    return log.read_text().splitlines()
