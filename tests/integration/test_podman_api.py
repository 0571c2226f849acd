"""What is asked of the Podman API, before a server that may say anything: it is the guest's."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from machine.errors import MachineError
from machine.podman import api

PORT = {"host_ip": "", "container_port": 80, "host_port": 8080, "range": 2, "protocol": "tcp,udp"}


def published(path: Path, document: object) -> set[tuple[int, str]]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n" + json.dumps(document).encode())
        writer.close()

    async def ask() -> set[tuple[int, str]]:
        async with await asyncio.start_unix_server(answer, path):
            return await api.published_ports(path, timeout_s=20)

    return asyncio.run(ask())


def test_ports_that_containers_publish(short_path: Path) -> None:
    found = published(short_path / "api.sock", [{"Ports": [PORT]}, {"Ports": None}])
    assert found == {(8080, "tcp"), (8080, "udp"), (8081, "tcp"), (8081, "udp")}


def test_range_of_ports_has_an_end(short_path: Path) -> None:
    found = published(short_path / "api.sock", [{"Ports": [{**PORT, "protocol": "tcp", "range": 10**12}]}])
    assert len(found) == 65535


@pytest.mark.parametrize("document", [{"message": "no"}, [{}], [{"Ports": [{**PORT, "protocol": None}]}], [[]], [1]])
def test_nonsense_is_an_error_that_is_ours(document: object, short_path: Path) -> None:
    with pytest.raises(MachineError, match="the answer is not a list of containers"):
        published(short_path / "api.sock", document)
