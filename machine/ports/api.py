"""Parse requests and make responses of the port API, by which Podman in a guest publishes containers' ports (pure).

The port API is the part of gvproxy's API that Podman uses. gvproxy's server is containers/gvisor-tap-vsock,
pkg/services/forwarder/ports.go, and Podman's client is libpod/networking_machine.go. A connection carries one request.
An error is a sentence in plain text, which `podman run` shows unchanged.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from machine.model import network
from machine.model.ports import Endpoint, Forward, Protocol, parse_endpoint, parse_protocol

MAX_HEAD_BYTES = 16 * 1024
MAX_BODY_BYTES = 64 * 1024

_BASE = "/services/forwarder/"
_METHODS = {f"{_BASE}expose": "POST", f"{_BASE}unexpose": "POST", f"{_BASE}all": "GET"}


class RequestError(Exception):
    """A request is refused. The error has the HTTP status and the message of the response."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, kw_only=True)
class Head:
    """The first line of a request, and the length of the request's body."""

    method: str
    path: str
    length: int


@dataclass(frozen=True, kw_only=True)
class Expose:
    endpoint: Endpoint
    guest: int


@dataclass(frozen=True, kw_only=True)
class Unexpose:
    endpoint: Endpoint


@dataclass(frozen=True, kw_only=True)
class ListAll:
    pass


Request = Expose | Unexpose | ListAll


def parse_head(data: bytes) -> Head:
    """Parse a request's line and headers.

    Raises:
        RequestError: the request is not HTTP, or the request's body is too large or of unknown length.
    """
    try:
        line, *fields = data.decode("ascii").split("\r\n")
        method, path, version = line.split(" ")
    except ValueError as error:
        raise RequestError(HTTPStatus.BAD_REQUEST, "this is not an HTTP request") from error
    if not version.startswith("HTTP/1."):
        raise RequestError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, f"{version} is not supported")
    headers = {name.strip().lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
    if "transfer-encoding" in headers:
        raise RequestError(HTTPStatus.LENGTH_REQUIRED, "the request needs a Content-Length")
    length = headers.get("content-length", "0")
    if not length.isascii() or not length.isdigit():
        raise RequestError(HTTPStatus.BAD_REQUEST, f'"{length}" is not a Content-Length')
    if len(length) > len(str(MAX_BODY_BYTES)) or int(length) > MAX_BODY_BYTES:
        raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is larger than {MAX_BODY_BYTES} bytes")
    return Head(method=method, path=path, length=int(length))


def parse_request(head: Head, body: bytes) -> Request:
    """Parse a whole request.

    Raises:
        RequestError: the path does not exist, or the method or the body is not valid for the path.
    """
    method = _METHODS.get(head.path)
    if method is None:
        raise RequestError(HTTPStatus.NOT_FOUND, f"{head.path} does not exist")
    if head.method != method:
        raise RequestError(HTTPStatus.METHOD_NOT_ALLOWED, f"{head.path} takes {method} only")
    if head.path.endswith("/all"):
        return ListAll()
    fields = _fields(body)
    try:
        protocol = parse_protocol(_text(fields, "protocol") if "protocol" in fields else Protocol.TCP)
        endpoint = parse_endpoint(_text(fields, "local"), protocol)
        if head.path.endswith("/unexpose"):
            return Unexpose(endpoint=endpoint)
        guest = _parse_remote(_text(fields, "remote"), protocol)
    except ValueError as error:
        raise _bad_request(str(error)) from error
    return Expose(endpoint=endpoint, guest=guest)


def _fields(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _bad_request("the body is not JSON") from error
    if not isinstance(fields, dict):
        raise _bad_request("the body is not a JSON object")
    return fields


def _text(fields: dict[str, Any], key: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str):
        raise ValueError(f'"{key}" is missing')
    return value


def _parse_remote(text: str, protocol: Protocol) -> int:
    """Parse the guest's end of a forward, `ADDRESS:PORT`, and return the port. The address must be the guest's own."""
    remote = parse_endpoint(text, protocol)
    if remote.address not in ("", network.GUEST):
        raise ValueError(f"{remote.address} is not the guest's address")
    return remote.port


def _bad_request(message: str) -> RequestError:
    return RequestError(HTTPStatus.BAD_REQUEST, message)


def encode_response(status: HTTPStatus, body: str = "", *, kind: str = "text/plain; charset=utf-8") -> bytes:
    """Return a whole HTTP response. Its headers say that the connection will be closed."""
    content = body.encode(errors="replace")
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + content


def encode_forwards(forwards: Sequence[Forward]) -> str:
    """Return the body of the response to `all`, which lists ports but no sockets."""
    return json.dumps(
        [
            {
                "local": forward.endpoint.host_port(""),
                "remote": f":{forward.guest}",
                "protocol": forward.endpoint.protocol,
            }
            for forward in forwards
            if isinstance(forward.endpoint, Endpoint)
        ]
    )
