"""What is asked of the Podman API, before a server that may say anything: it is the guest's."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from machine.errors import MachineError
from machine.model.ports import Claim, Endpoint
from machine.podman import api

PORT = {"host_ip": "", "container_port": 80, "host_port": 8080, "range": 2, "protocol": "tcp,udp"}
ACTIVE, DORMANT = Claim.ACTIVE, Claim.DORMANT


def container(*ports: dict[str, Any], state: str = "running") -> dict[str, object]:
    return {"State": state, "Ports": [{**PORT, **port} for port in ports] or None}


def published(path: Path, document: object) -> dict[str, Claim]:
    """The claims, by endpoints in our notation."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n" + json.dumps(document).encode())
        writer.close()

    async def ask() -> dict[Endpoint, Claim]:
        async with await asyncio.start_unix_server(answer, path):
            return await api.container_ports(path, timeout_s=20)

    return {str(endpoint): claim for endpoint, claim in asyncio.run(ask()).items()}


def test_ports_that_containers_publish(short_path: Path) -> None:
    found = published(short_path / "api.sock", [container({}), container()])
    assert found == dict.fromkeys(("*:8080/tcp", "*:8080/udp", "*:8081/tcp", "*:8081/udp"), ACTIVE)


@pytest.mark.parametrize(
    ("state", "claim"),
    [
        ("created", DORMANT),
        ("initialized", ACTIVE),
        ("running", ACTIVE),
        ("paused", ACTIVE),
        ("stopping", ACTIVE),
        ("stopped", DORMANT),
        ("exited", DORMANT),
    ],
)
def test_container_claims_its_ports_while_it_has_a_network(state: str, claim: Claim, short_path: Path) -> None:
    port = {"host_ip": "127.0.0.1", "range": 1, "protocol": "tcp"}
    assert published(short_path / "api.sock", [container(port, state=state)]) == {"127.0.0.1:8080/tcp": claim}


def test_running_container_counts_beside_one_that_has_ended(short_path: Path) -> None:
    port = {"range": 1, "protocol": "tcp,sctp"}
    both = [container(port, state="exited"), container(port), container(port, state="created")]
    assert published(short_path / "api.sock", both) == {"*:8080/tcp": ACTIVE}


def test_range_of_ports_has_an_end(short_path: Path) -> None:
    found = published(short_path / "api.sock", [container({"protocol": "tcp", "range": 10**12})])
    assert len(found) == 65535


@pytest.mark.parametrize(
    "document",
    [
        {"message": "no"},
        [{}],
        [container({"protocol": None})],
        [container({"host_ip": "nowhere"})],
        [container(*[{"range": 65535}] * 5)],
        [[]],
        [1],
    ],
)
def test_nonsense_is_an_error_that_is_ours(document: object, short_path: Path) -> None:
    with pytest.raises(MachineError, match="the answer is not a list of containers"):
        published(short_path / "api.sock", document)


def test_endless_answer_is_not_read_to_its_end(short_path: Path) -> None:
    with pytest.raises(MachineError, match="the answer is not a list of containers"):
        published(short_path / "api.sock", ["x" * 17_000_000])
