"""A client of the port API, and what listens on the host."""

from __future__ import annotations

import contextlib
import json
import socket
from pathlib import Path

from machine.store.ssh_ports import choose
from tests.support.waiting import WAIT_S, wait_until


def wait_for_qemu(path: Path) -> None:
    """What is asked for before QEMU's monitor has greeted waits for that."""
    port = choose(set())
    assert post(path, "expose", local=f"127.0.0.1:{port}", remote=":80", protocol="tcp") == (200, "")
    wait_until(lambda: listens(port), "QEMU's monitor")
    assert post(path, "unexpose", local=f"127.0.0.1:{port}", protocol="tcp") == (200, "")


def ask(path: Path, data: bytes) -> tuple[int, str]:
    """Status and body of the answer to one request; status 0 where the connection just ends."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(WAIT_S)
        connection.connect(str(path))
        answer = b""
        # Who sends more than is wanted may be cut off while it still does.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while chunk := connection.recv(65536):
                answer += chunk
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]) if head else 0, body.decode()


def post(path: Path, verb: str, **fields: object) -> tuple[int, str]:
    return ask(path, post_request(verb, **fields))


def post_request(verb: str, **fields: object) -> bytes:
    body = json.dumps(fields).encode()
    head = (
        f"POST /services/forwarder/{verb} HTTP/1.1\r\nHost: gateway.containers.internal\r\nContent-Length: {len(body)}"
    )
    return head.encode() + b"\r\n\r\n" + body


def everything(path: Path) -> list[dict[str, str]]:
    status, body = ask(path, b"GET /services/forwarder/all HTTP/1.1\r\n\r\n")
    assert status == 200
    found: list[dict[str, str]] = json.loads(body)
    return found


def listens(port: int, kind: socket.SocketKind = socket.SOCK_STREAM, address: str = "127.0.0.1") -> bool:
    with socket.socket(socket.AF_INET, kind) as probe:
        if kind == socket.SOCK_STREAM:
            return probe.connect_ex((address, port)) == 0
        try:
            probe.bind((address, port))
        except OSError:
            return True
        return False
