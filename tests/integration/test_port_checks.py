"""Requests of the port API that Podman's lists of containers, or the user's settings, do not bear out.

The supervisor and QEMU are real. The guest never boots, and the test plays its Podmans.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socketserver
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from machine.store.ssh_ports import choose
from tests.support.disk_images import Images
from tests.support.port_api import everything, listens, post, wait_for_qemu
from tests.support.processes import qemu_pid
from tests.support.start import control_socket, starting
from tests.support.waiting import wait_until
from tests.support.world import World


class FakePodman(socketserver.ThreadingUnixStreamServer):
    """A Podman API that lists one container, which publishes `ports` on 127.0.0.1."""

    daemon_threads = True

    def __init__(self, path: Path, *ports: int) -> None:
        self.ports = ports
        self.asked = 0
        super().__init__(str(path), FakePodmanAnswer)

    def document(self) -> list[dict[str, object]]:
        ports = [{"host_ip": "127.0.0.1", "host_port": port, "range": 1, "protocol": "tcp"} for port in self.ports]
        return [{"State": "running", "Ports": ports}]


class FakePodmanAnswer(socketserver.StreamRequestHandler):
    server: FakePodman

    def handle(self) -> None:
        self.server.asked += 1
        assert self.rfile.readline() == b"GET /v4.0.0/libpod/containers/json?all=true HTTP/1.0\r\n"
        self.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n" + json.dumps(self.server.document()).encode())


@contextlib.contextmanager
def podmans(runtime: Path, users: Sequence[int], roots: Sequence[int]) -> Iterator[list[FakePodman]]:
    """Serve the APIs of both of the guest's Podmans where the SSH master would do so."""
    with contextlib.ExitStack() as stack:
        both = [
            stack.enter_context(FakePodman(runtime / name, *ports))
            for name, ports in (("podman.sock", users), ("podman-root.sock", roots))
        ]
        for server in both:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.shutdown)
        yield both


def expose(path: Path, *ports: int) -> None:
    for port in ports:
        fields = {"local": f"127.0.0.1:{port}", "remote": f":{port}", "protocol": "tcp"}
        assert post(path, "expose", **fields) == (200, "")


def test_what_no_container_publishes_is_taken_back(world: World, images: Images) -> None:
    world.init("box", images.qcow2)
    with starting(world) as process:
        api_socket = control_socket(world).with_name("ports.sock")
        wait_for_qemu(api_socket)
        take_back(api_socket)
        world.machine("rm", "--force", "box")
        process.communicate(timeout=30)


def take_back(port_api: Path) -> None:
    false, users, roots = choose(set()), choose(set()), choose(set())
    expose(port_api, false, users, roots)
    time.sleep(3)
    assert all(listens(port) for port in (false, users, roots))  # while Podman does not answer
    with podmans(port_api.parent, [users], [roots]) as (user_api, root_api):
        wait_until(lambda: not listens(false))
        assert sorted(entry["remote"] for entry in everything(port_api)) == sorted((f":{users}", f":{roots}"))
        asked = user_api.asked + root_api.asked
        time.sleep(3)
        assert user_api.asked + root_api.asked == asked  # nothing is left to check
        # Nobody's container can have a port closed for more than a moment, or lead it to another port of the guest.
        local = f"127.0.0.1:{users}"
        assert post(port_api, "unexpose", local=local, protocol="tcp") == (200, "")
        assert post(port_api, "expose", local=local, remote=":22", protocol="tcp") == (200, "")
        wait_until(lambda: {"local": local, "remote": f":{users}", "protocol": "tcp"} in everything(port_api))
        assert post(port_api, "expose", local=f"127.0.0.1:{false}", remote=":22", protocol="tcp") == (200, "")
        assert not listens(false)


@pytest.fixture
def few_files() -> Iterator[None]:
    """A low limit for open files, as users usually have it; they may raise it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1000), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.linux("it changes the limits of another process")
@pytest.mark.usefixtures("few_files")
def test_settings_limit_what_containers_may_have(world: World, images: Images) -> None:
    for key, value in (("max_published_ports", "2"), ("allow_wildcard", "false")):
        assert world.machine("config", "set", key, value).status == 0
    world.init("box", images.qcow2)
    first, second, third = choose(set()), choose(set()), choose(set())
    with starting(world) as process:
        api_socket = control_socket(world).with_name("ports.sock")
        # QEMU can open a port and a connection to it for each of the 1,024 that containers may have.
        assert psutil.Process(qemu_pid(api_socket.parent)).rlimit(psutil.RLIMIT_NOFILE)[0] > 2048
        status, sentence = post(api_socket, "expose", local=f":{first}", remote=f":{first}", protocol="tcp")
        assert status == 500
        assert sentence == (
            f"cannot publish *:{first}/tcp: containers may not publish on every address of this host; name an "
            f"address, as in 127.0.0.1:{first}, or allow it for later starts with: "
            "machine config set allow_wildcard true"
        )
        if os.geteuid() == 0:
            status, sentence = post(api_socket, "expose", local="127.0.0.1:1023", remote=":1023", protocol="tcp")
            assert status == 500
            assert sentence.endswith("for later starts with: machine config set allow_privileged_ports true")
        expose(api_socket, first, second)
        status, sentence = post(api_socket, "expose", local=f"127.0.0.1:{third}", remote=":1", protocol="tcp")
        assert (status, sentence.partition(": ")[2].partition(";")[0]) == (
            500,
            "the containers of this machine already publish 2 ports",
        )
        assert len(everything(api_socket)) == 2
        world.machine("rm", "--force", "box")
        process.communicate(timeout=30)
