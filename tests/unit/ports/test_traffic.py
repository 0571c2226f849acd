"""Counting connections: the decision, and real sockets of this host."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from machine.ports.traffic import Link, SocketTraffic, links_through, own_ports, tcp_links

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="it reads Linux's tables of connections")


@pytest.mark.parametrize(
    ("link", "counts"),
    [
        (Link(local=8080, remote=5000, is_local=True), True),
        (Link(local=8080, remote=5000, is_local=False), True),
        (Link(local=5000, remote=8080, is_local=True), True),
        (Link(local=5000, remote=8080, is_local=False), False),
        (Link(local=8080, remote=6000, is_local=True), False),
        (Link(local=6000, remote=8080, is_local=True), False),
        (Link(local=5000, remote=443, is_local=True), False),
    ],
)
def test_connection_through_a_port_counts_unless_it_is_our_own(link: Link, counts: bool) -> None:
    assert links_through({8080}, [link], own={6000}) == ([link] if counts else [])


def through(port: int, own: set[int] | None = None) -> int:
    return len(links_through({port}, tcp_links([]), own or set()))


@on_linux
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_open_and_short_connections_are_seen(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as server:
        server.bind((address, 0))
        server.listen()
        port = server.getsockname()[1]
        assert through(port) == 0
        with socket.create_connection((address, port)) as client:
            assert through(port) == 2
            assert through(port, own_ports(port)) == 0
            accepted, _ = server.accept()
            client.shutdown(socket.SHUT_WR)
            with accepted:
                assert accepted.recv(1) == b""
        assert through(port) >= 1


@on_linux
def test_connections_to_unix_sockets_are_seen(short_path: Path) -> None:
    path = short_path / "api.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        traffic = SocketTraffic()
        assert traffic.count([path], []) == 0
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            accepted, _ = server.accept()
            with accepted:
                assert traffic.count([path], []) >= 1
        traffic.count([path], [])
        assert traffic.count([path], []) == 0
        for _ in range(2):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
            server.accept()[0].close()
            assert traffic.count([path], []) in (0, 1)  # some file systems do not tell


def test_socket_that_is_gone_has_no_connections(tmp_path: Path) -> None:
    assert SocketTraffic().count([tmp_path / "gone"], []) == 0
