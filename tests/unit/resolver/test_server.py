"""A guest's questions about names, asked over a real socket; getaddrinfo is the test's."""

from __future__ import annotations

import asyncio
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import pytest

from machine.model import network
from machine.resolver import lookup
from machine.resolver.answers import Missing
from machine.resolver.lookup import HostNames, for_guest
from machine.resolver.server import LookUp, ResolverServer

HOSTS = {
    "both.example": ["192.0.2.1", "2001:db8::1"],
    "four.example": ["192.0.2.1", "192.0.2.1"],
    "mine.example": ["127.0.0.1", "::1"],
    "many.example": [f"192.0.2.{number}" for number in range(200)],
}
# Without EAI_NODATA, as on some Macs, such a name is told by the other.
NO_ADDRESS = getattr(socket, "EAI_NODATA", socket.EAI_ADDRFAMILY)
ERRORS = {"none.example": socket.EAI_NONAME, "later.example": socket.EAI_AGAIN, "nothing.example": NO_ADDRESS}


@pytest.fixture(autouse=True)
def hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(name: bytes, *_: object, **__: object) -> list[Any]:
        text = name.decode()
        if text in ERRORS:
            raise socket.gaierror(ERRORS[text], "no")
        return [(0, 0, 0, "", (address, 0)) for address in HOSTS[text]]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


Ask = Callable[[int, bytes], Awaitable[bytes]]


async def over_udp(port: int, question: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", port))
        await loop.sock_sendall(client, b"not a question")  # is not answered
        await loop.sock_sendall(client, question)
        async with asyncio.timeout(20):
            return await loop.sock_recv(client, 65536)


async def over_tcp(port: int, question: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers = []
    async with asyncio.timeout(20):
        for _ in range(2):  # on one connection
            writer.write(struct.pack(">H", len(question)) + question)
            (length,) = struct.unpack(">H", await reader.readexactly(2))
            answers.append(await reader.readexactly(length))
    writer.close()
    await writer.wait_closed()
    return answers[-1]


def ask(how: Ask, name: str, kind: str, look_up: LookUp | None = None) -> dns.message.Message:
    async def talk() -> bytes:
        server = ResolverServer(look_up or HostNames().look_up)
        port = await server.open()
        try:
            return await how(port, question.to_wire())
        finally:
            server.close()

    question = dns.message.make_query(name, kind)
    answer = dns.message.from_wire(asyncio.run(talk()))
    assert question.is_response(answer)
    return answer


def addresses(answer: dns.message.Message) -> list[str]:
    assert answer.rcode() == dns.rcode.NOERROR
    return [record.to_text() for records in answer.answer for record in records]


@pytest.mark.parametrize("how", [over_udp, over_tcp])
@pytest.mark.parametrize(
    ("name", "kind", "found"),
    [
        ("both.example", "A", ["192.0.2.1"]),
        ("both.example", "AAAA", ["2001:db8::1"]),
        ("four.example", "A", ["192.0.2.1"]),
        ("four.example", "AAAA", []),  # the name exists
        ("four.example", "MX", []),
        ("nothing.example", "A", []),
        ("mine.example", "A", [network.HOST]),
    ],
)
def test_addresses_are_those_that_the_host_finds(how: Ask, name: str, kind: str, found: list[str]) -> None:
    assert addresses(ask(how, name, kind)) == found


@pytest.mark.parametrize(
    ("name", "code"), [("none.example", dns.rcode.NXDOMAIN), ("later.example", dns.rcode.SERVFAIL)]
)
def test_name_without_addresses_is_told_apart_from_a_failure(name: str, code: int) -> None:
    assert ask(over_udp, name, "A").rcode() == code


@pytest.mark.parametrize("how", [over_udp, over_tcp])
def test_question_whose_answer_cannot_be_made_is_answered_with_a_failure(how: Ask) -> None:
    async def look_up(name: str) -> list[str]:
        return ["no address"]

    assert ask(how, "odd.example", "A", look_up).rcode() == dns.rcode.SERVFAIL


def test_host_looks_up_so_many_names_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not answer would fill the host with threads."""
    answered = threading.Event()

    def getaddrinfo(*_: object, **__: object) -> list[Any]:
        answered.wait(20)
        return [(0, 0, 0, "", ("192.0.2.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(lookup, "_MAX_LOOKUPS", 1)

    async def work() -> None:
        names = HostNames()
        first = asyncio.create_task(names.look_up("first.example"))
        await asyncio.sleep(0)
        assert await names.look_up("second.example") is Missing.FAILURE
        answered.set()
        assert await first == ["192.0.2.1"]
        assert await names.look_up("second.example") == ["192.0.2.1"]

    asyncio.run(work())


# Answers questions after an upgrade has removed the version of the program that is running.
AFTER_AN_UPGRADE = """
import sys
import dns.message
from machine.supervisor.openssl import load_without_openssl
load_without_openssl()
import machine.supervisor.process
from machine.supervisor.preload import preload
preload()
from machine.resolver import lookup
from machine.resolver.answers import Missing
from machine.resolver.lookup import HostNames  # as a supervisor that answers its guest
from machine.resolver.server import ResolverServer
from machine.resolver.answers import Missing, read_question, write_answer
questions = [
    (dns.message.make_query(name, kind, use_edns=edns).to_wire(), found)
    for name, kind, found in [
        ("host.example", "A", ["192.0.2.1", "2001:db8::1"]),
        ("host.example", "AAAA", ["192.0.2.1", "2001:db8::1"]),
        ("host.example", "TYPE65280", ()),
        ("none.example", "A", Missing.NO_SUCH_NAME),
    ]
    for edns in (-1, 0)
]

class Removed:
    def find_spec(self, name, *_):
        raise ModuleNotFoundError(name)

sys.meta_path[:] = [Removed()]
for data, found in questions:
    question = read_question(data)
    answer = write_answer(question, found, max_bytes=question.max_bytes)
    sys.stdout.write(dns.message.from_wire(answer).to_text() + "\\n")
"""


def test_supervisor_answers_after_its_version_has_been_removed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", AFTER_AN_UPGRADE], capture_output=True, check=False, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    answers = [line.split()[-1] for line in done.stdout.splitlines() if " IN A" in line and line[-1].isdigit()]
    assert answers == ["192.0.2.1"] * 2 + ["2001:db8::1"] * 2


def test_long_answer_is_asked_for_again_over_tcp() -> None:
    short = ask(over_udp, "many.example", "A")
    assert (short.answer, short.flags & dns.flags.TC) == ([], dns.flags.TC)
    assert len(addresses(ask(over_tcp, "many.example", "A"))) == 200


def test_addresses_that_mean_something_else_in_the_guest_are_left_out() -> None:
    found = ["127.0.0.1", "127.0.1.1", "::1", "fe80::1%en0", "169.254.1.1", "192.0.2.1"]
    assert for_guest(found) == [network.HOST, "192.0.2.1"]
