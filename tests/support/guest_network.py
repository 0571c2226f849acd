"""Clients on the host that reach a guest over its network."""

from __future__ import annotations

import contextlib
import json
import socket
import time
import urllib.request
from typing import Any

from tests.support.world import World

SERVE = "mkdir /www; echo hello >/www/index.html; exec httpd -f -p 80 -h /www"
"""A shell command for a busybox container that runs a web server."""

# busybox has no server for UDP; the guest's own Perl has.
_ECHO_SERVER = """
use IO::Socket::INET;
my $s = IO::Socket::INET->new(LocalPort => 53, Proto => "udp") or die;
while ($s->recv(my $data, 1500)) { $s->send($data); }
"""
ECHO = ("--volume", "/:/guest:ro", "busybox", "chroot", "/guest", "perl", "-e", _ECHO_SERVER)
"""The end of a `run` command: the container sends back the datagrams that it gets on port 53."""


LIST_CONTAINERS = (
    "--volume", "/usr:/usr:ro", "busybox",
    "/usr/lib64/ld-linux-x86-64.so.2", "--library-path", "/usr/lib/x86_64-linux-gnu",
    "/usr/bin/curl", "--silent", "--show-error", "--unix-socket", "/var/run/docker.sock", "http://d/containers/json",
)  # fmt: skip
"""The end of a `run` command: the container lists all containers by the guest's curl, as busybox knows no sockets."""


def fetch(address: str, *, timeout_s: float = 60) -> str:
    """Fetch a page; retries while no server listens in the guest, whose kernel then resets connections."""
    until = time.monotonic() + timeout_s
    while True:
        try:
            with urllib.request.urlopen(f"http://{address}/", timeout=timeout_s) as answer:
                return str(answer.read().decode())
        except OSError as error:  # Python raises a reset also for an end of the connection without an answer
            reset = isinstance(getattr(error, "reason", error), ConnectionResetError)
            if not reset or time.monotonic() > until:
                raise
            time.sleep(0.1)


def reachable(address: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        return probe.connect_ex((address, port)) == 0


def udp_echo(port: int) -> bytes:
    """Send `ping` over UDP and return the answer; b"" if there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", port))
        client.settimeout(5)
        for _ in range(6):
            with contextlib.suppress(TimeoutError, ConnectionRefusedError):
                client.send(b"ping")
                return client.recv(100)
    return b""


def web_addresses(world: World) -> list[str]:
    """List the addresses of the container `web` on the host."""
    mappings = world.remote("box", "port", "web", "80").stdout.split()
    assert len(mappings) >= 3
    return [mapping.replace("0.0.0.0", "127.0.0.1") for mapping in mappings]


def answers(world: World, connection: str) -> bool:
    return world.remote(connection, "info", "--format", "{{.Host.Arch}}", check=False).stdout == "amd64\n"


def names_of(listing: str) -> list[str]:
    """Return the names in the output of LIST_CONTAINERS."""
    return [name.removeprefix("/") for container in json.loads(listing) for name in container["Names"]]


def api_socket(world: World, name: str) -> str:
    return str(world.inspect(name)["ConnectionInfo"]["PodmanSocket"]["Path"])


def monitor(world: World, name: str, line: str) -> None:
    """Run a command of QEMU's human monitor on its second QMP socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(120)
        connection.connect(str(world.runtime(name) / "qmp-tools.sock"))
        with connection.makefile("rwb") as stream:
            stream.readline()
            _execute(stream, "qmp_capabilities")
            assert not _execute(stream, "human-monitor-command", **{"command-line": line}), line


def _execute(stream: Any, command: str, **arguments: str) -> Any:
    stream.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
    stream.flush()
    while True:
        answer = json.loads(stream.readline())
        if "event" not in answer:
            return answer["return"]
