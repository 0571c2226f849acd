"""Send requests to a guest's Podman API over a forwarded socket."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from machine.errors import MachineError, reason_of
from machine.model.ports import MAX_PORT


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


async def published_ports(socket: Path, *, timeout_s: float) -> set[tuple[int, str]]:
    """Return the host ports that running containers publish, each with `tcp` or `udp`.

    Raises:
        MachineError: the API cannot be reached, or the answer is invalid.
    """
    try:
        async with asyncio.timeout(timeout_s):
            containers = json.loads(await _body(socket, "/v4.0.0/libpod/containers/json"))
        return {
            (port["host_port"] + offset, protocol)
            for container in containers
            for port in container["Ports"] or ()
            for protocol in port["protocol"].split(",")
            for offset in range(min(port["range"], MAX_PORT))
        }
    except TimeoutError as error:
        raise MachineError(f"cannot list the containers on {socket}: no answer within {timeout_s:.0f} s") from error
    except OSError as error:
        raise MachineError(f"cannot list the containers on {socket}: {reason_of(error)}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MachineError(f"cannot list the containers on {socket}: the answer is not a list of containers") from error


async def _body(socket: Path, path: str) -> bytes:
    """Return the body of an HTTP/1.0 response, which extends to the end of the stream."""
    reader, writer = await asyncio.open_unix_connection(socket)
    try:
        writer.write(f"GET {path} HTTP/1.0\r\nHost: d\r\n\r\n".encode())
        await writer.drain()
        return (await reader.read()).partition(b"\r\n\r\n")[2]
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
