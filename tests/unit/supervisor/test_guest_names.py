"""A guest is told where to ask for names."""

from __future__ import annotations

import asyncio
import shlex
import socket
from pathlib import Path

import pytest

from machine.resolver.lookup import HostNames
from machine.resolver.server import ResolverServer
from machine.supervisor.guest_names import GuestNames


class Guest:
    """A guest whose commands only note their words, and end with an exit status."""

    def __init__(self, directory: Path, *, status: int = 0) -> None:
        self.noted = directory / "noted"
        self.status = status
        self.notices: list[str] = []

    def ssh(self, command: str) -> list[str]:
        note = f"echo {shlex.quote(command)} >>{self.noted}; cat >>{self.noted}; echo 'no nft' >&2; exit {self.status}"
        return ["sh", "-c", note]

    def names(self, server: ResolverServer | None) -> GuestNames:
        return GuestNames(
            ssh=self.ssh, script="script\n", server=server, on_notice=self.notices.append, time_scale=1
        )  # fmt: skip


def test_guest_is_told_the_same_port_at_each_boot(tmp_path: Path) -> None:
    async def talk() -> None:
        names = guest.names(ResolverServer(HostNames().look_up))
        for _ in range(2):
            await names.provide()
        port = int(guest.noted.read_text().splitlines()[0].split()[-1])
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            pass
        names.close()
        assert guest.noted.read_text() == f"sh -s 192.168.127.253 192.168.127.254 {port}\nscript\n" * 2

    guest = Guest(tmp_path)
    asyncio.run(talk())
    assert guest.notices == []


@pytest.mark.parametrize("status", [0, 1, 255])
def test_guest_that_was_told_by_an_earlier_supervisor_asks_qemu_again(status: int, tmp_path: Path) -> None:
    guest = Guest(tmp_path, status=status)
    asyncio.run(guest.names(None).provide())
    assert guest.noted.read_text() == "sh -s 192.168.127.253 192.168.127.254\nscript\n"
    assert guest.notices == []


@pytest.mark.parametrize(("status", "told"), [(0, False), (1, True), (255, False)])
def test_guest_that_cannot_ask_this_host_is_told_of(status: int, told: bool, tmp_path: Path) -> None:
    async def talk() -> None:
        names = guest.names(ResolverServer(HostNames().look_up))
        await names.provide()
        names.close()

    guest = Guest(tmp_path, status=status)
    asyncio.run(talk())
    assert guest.notices == (["The guest does not ask this host for the addresses of names: no nft"] if told else [])
