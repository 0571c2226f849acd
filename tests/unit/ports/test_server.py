"""The port API's server, and those who only occupy it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from machine.model.ports import Driver
from machine.ports import server
from machine.ports.drivers import Drivers
from machine.ports.forwarding import Forwarding
from machine.ports.published import PublishedPorts
from machine.ports.server import PortServer

LIST_ALL = b"GET /services/forwarder/all HTTP/1.1\r\n\r\n"
CROWD = 200


async def no_monitor(line: str) -> str:
    raise AssertionError(line)


def make_server(directory: Path) -> PortServer:
    drivers = Drivers(monitor=no_monitor, netdev="none", ssh=lambda *_: ["false"], pid=lambda _: None, standing={})
    forwarding = Forwarding(drivers, directory / "ports.json", Driver.SLIRP, on_failure=print)
    return PortServer(PublishedPorts(forwarding, []))


@pytest.mark.linux("the test opens more files than a Mac lets a process open")
def test_silent_clients_give_way_one_by_one(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request is answered while the server still waits for theirs, and those who came first are cut off for it."""
    monkeypatch.setattr(server, "_REQUEST_S", 3600.0)

    async def work() -> tuple[bytes, list[bool]]:
        path = short_path / "ports.sock"
        async with await make_server(short_path).serve(path):
            crowd = [await asyncio.open_unix_connection(path) for _ in range(CROWD)]
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(LIST_ALL)
            answer = await reader.read()
            await asyncio.wait([asyncio.ensure_future(crowd[0][0].read())])
            cut_off = [reader.at_eof() for reader, _ in crowd]
            for _, silent in (*crowd, (reader, writer)):
                silent.close()
        return answer, cut_off

    answer, cut_off = asyncio.run(work())
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert cut_off[0]
    assert not cut_off[-1]
    assert cut_off == sorted(cut_off, reverse=True)
