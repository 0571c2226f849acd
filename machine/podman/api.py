"""Send requests to a guest's Podman API over a forwarded socket."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from machine.errors import MachineError, reason_of
from machine.model.ports import MAX_PORT, Claim, Endpoint, Protocol, parse_address

# Podman's states of a container whose ports are published.
_ACTIVE_STATES = frozenset({"initialized", "running", "paused", "stopping"})
_PROTOCOLS = frozenset(Protocol)
_EVENTS = ("start", "restart", "died", "stop", "remove")

# What a guest may send is limited, because a hostile guest decides what it sends.
_MAX_CLAIMS = 4 * MAX_PORT
_MAX_RESPONSE_BYTES = 16 * 1024 * 1024
_CHUNK_BYTES = 256 * 1024


async def ping(socket: Path, *, timeout_s: float) -> None:
    """Check that Podman answers `/_ping`. The first request is slow, because it starts the service in the guest.

    Raises:
        MachineError: no server answers on the socket, or the server that answers is not Podman's API.
    """
    try:
        async with asyncio.timeout(timeout_s):
            status = await _status_line(socket, "/_ping")
    except TimeoutError as error:
        raise MachineError(f"no answer on {socket} within {timeout_s:.0f} s") from error
    except ValueError as error:
        raise MachineError(f"the server on {socket} is not Podman's API") from error
    except OSError as error:
        raise MachineError(f"cannot reach {socket}: {reason_of(error)}") from error
    if " 200 " not in f"{status} ":
        raise MachineError(
            f"{socket} answered {status!r} instead of 200"
            if status
            else f"the connection to {socket} was closed at once"
        )


async def container_ports(socket: Path, *, timeout_s: float) -> dict[Endpoint, Claim]:
    """Return the ports of the host that containers publish, those of containers that do not run included.

    Raises:
        MachineError: the API cannot be reached, or the answer is invalid.
    """
    try:
        async with asyncio.timeout(timeout_s):
            body = await _body(socket, "/v4.0.0/libpod/containers/json?all=true")
        return _claims(json.loads(body))
    except TimeoutError as error:
        raise MachineError(f"cannot list the containers on {socket}: no answer within {timeout_s:.0f} s") from error
    except OSError as error:
        raise MachineError(f"cannot list the containers on {socket}: {reason_of(error)}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MachineError(f"cannot list the containers on {socket}: the answer is not a list of containers") from error


async def container_events(socket: Path) -> AsyncIterator[None]:
    """Yield whenever a container has been started, has ended or has been removed, until the connection ends.

    Raises:
        MachineError: the API cannot be reached.
    """
    filters = quote(json.dumps({"type": ["container"], "event": _EVENTS}))
    path = f"/v4.0.0/libpod/events?stream=true&filters={filters}"
    try:
        reader, writer = await asyncio.open_unix_connection(socket)
        try:
            writer.write(f"GET {path} HTTP/1.0\r\nHost: d\r\n\r\n".encode())
            await writer.drain()
            while (await reader.readline()).strip():  # the headers
                pass
            while await reader.read(_CHUNK_BYTES):
                yield
        finally:
            writer.close()
    except (OSError, ValueError) as error:
        raise MachineError(f"cannot follow the events on {socket}: {reason_of(error)}") from error


def _claims(containers: list[dict[str, Any]]) -> dict[Endpoint, Claim]:
    """Return the claim of each port in Podman's list of containers. Protocols that are not forwarded are left out."""
    claims: dict[Endpoint, Claim] = {}
    budget = _MAX_CLAIMS
    for container in containers:
        claim = Claim.ACTIVE if container["State"] in _ACTIVE_STATES else Claim.DORMANT
        for port in container["Ports"] or ():
            protocols = [Protocol(name) for name in port["protocol"].split(",") if name in _PROTOCOLS]
            count = min(port["range"], MAX_PORT)
            budget -= count * len(protocols)
            if budget < 0:
                raise ValueError("too many ports")
            address = parse_address(port["host_ip"])
            for protocol, offset in itertools.product(protocols, range(count)):
                endpoint = Endpoint(protocol=protocol, address=address, port=port["host_port"] + offset)
                if claims.get(endpoint) is not Claim.ACTIVE:
                    claims[endpoint] = claim
    return claims


async def _body(socket: Path, path: str) -> bytes:
    """Return the body of an HTTP/1.0 response, which extends to the end of the stream."""
    reader, writer = await asyncio.open_unix_connection(socket)
    try:
        writer.write(f"GET {path} HTTP/1.0\r\nHost: d\r\n\r\n".encode())
        await writer.drain()
        response = b""
        while chunk := await reader.read(_CHUNK_BYTES):
            response += chunk
            if len(response) > _MAX_RESPONSE_BYTES:
                raise ValueError("the response is too large")
        return response.partition(b"\r\n\r\n")[2]
    finally:
        writer.close()


async def _status_line(socket: Path, path: str) -> str:
    reader, writer = await asyncio.open_unix_connection(socket)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        return (await reader.readline()).decode(errors="replace").strip()
    finally:
        writer.close()
