"""What guest Podman asks, and what others might."""

from __future__ import annotations

import contextlib
import json
from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine.model.ports import Endpoint, Forward, Origin, Protocol
from machine.ports import api
from machine.ports.api import Expose, Head, ListAll, Request, RequestError, Unexpose

EXPOSE = Head(method="POST", path="/services/forwarder/expose", length=0)
UNEXPOSE = Head(method="POST", path="/services/forwarder/unexpose", length=0)
ALL = Head(method="GET", path="/services/forwarder/all", length=0)


def body(local: object = "127.0.0.1:8080", remote: object = ":80", protocol: object = "tcp") -> bytes:
    return json.dumps({"local": local, "remote": remote, "protocol": protocol}).encode()


def exposed(protocol: Protocol, address: str, port: int, guest_port: int) -> Expose:
    endpoint = Endpoint(protocol=protocol, address=address, port=port)
    return Expose(endpoint=endpoint, guest=guest_port)


@pytest.mark.parametrize(
    ("head", "content", "request_"),
    [
        (EXPOSE, body(), exposed(Protocol.TCP, "127.0.0.1", 8080, 80)),
        (EXPOSE, body(":8080", ":8080"), exposed(Protocol.TCP, "", 8080, 8080)),
        (EXPOSE, body("0.0.0.0:53", ":53", "udp"), exposed(Protocol.UDP, "0.0.0.0", 53, 53)),
        (EXPOSE, body("[::1]:8080", "192.168.127.2:80"), exposed(Protocol.TCP, "::1", 8080, 80)),
        (EXPOSE, b'{"local": ":1", "remote": ":2"}', exposed(Protocol.TCP, "", 1, 2)),
        (UNEXPOSE, b'{"local": ":1", "protocol": "udp"}', Unexpose(
            endpoint=Endpoint(protocol=Protocol.UDP, address="", port=1))),
        (ALL, b"", ListAll()),
    ],
)  # fmt: skip
def test_requests_of_podman(head: Head, content: bytes, request_: Request) -> None:
    assert api.parse_request(head, content) == request_


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "the body is not JSON"),
        (b"[" * 50_000, "the body is not JSON"),
        (body(local="[fe80::1%a]:80"), '"fe80::1%a" has a zone (the part after %), which is not supported'),
        (b"[]", "the body is not a JSON object"),
        (b'{"remote": ":80"}', '"local" is missing'),
        (b'{"local": ":80"}', '"remote" is missing'),
        (body(local=8080), '"local" is missing'),
        (body(protocol="sctp"), 'protocol "sctp" is not supported; choose tcp or udp'),
        (body(protocol="unix"), 'protocol "unix" is not supported; choose tcp or udp'),
        (body(local=":0"), '"0" is not a port number (1-65535)'),
        (body(local=":70000"), '"70000" is not a port number (1-65535)'),
        (body(remote=":-1"), '"-1" is not a port number (1-65535)'),
        (body(local="localhost:80"), '"localhost" is not an IP address'),
        (body(local="80"), '"80" is not ADDRESS:PORT'),
    ],
)
def test_body_that_cannot_be_meant(content: bytes, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        api.parse_request(EXPOSE, content)
    assert (caught.value.status, str(caught.value)) == (HTTPStatus.BAD_REQUEST, message)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (Head(method="POST", path="/services/dns/add", length=0), HTTPStatus.NOT_FOUND),
        (Head(method="GET", path="/services/forwarder/expose", length=0), HTTPStatus.METHOD_NOT_ALLOWED),
    ],
)
def test_path_that_is_not_served(head: Head, status: HTTPStatus) -> None:
    with pytest.raises(RequestError) as caught:
        api.parse_request(head, b"")
    assert caught.value.status is status


def test_head_of_a_go_client() -> None:
    text = b"POST /services/forwarder/expose HTTP/1.1\r\nHost: gateway.containers.internal\r\nContent-Length: 59"
    assert api.parse_head(text) == Head(method="POST", path="/services/forwarder/expose", length=59)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"", HTTPStatus.BAD_REQUEST),
        (b"\xff\xfe", HTTPStatus.BAD_REQUEST),
        (b"GET /", HTTPStatus.BAD_REQUEST),
        (b"GET / HTTP/2", HTTPStatus.HTTP_VERSION_NOT_SUPPORTED),
        (b"POST / HTTP/1.1\r\nContent-Length: -1", HTTPStatus.BAD_REQUEST),
        (b"POST / HTTP/1.1\r\nContent-Length: 1048576", HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
        (b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 5000, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked", HTTPStatus.LENGTH_REQUIRED),
    ],
)
def test_head_that_is_refused(head: bytes, status: HTTPStatus) -> None:
    with pytest.raises(RequestError) as caught:
        api.parse_head(head)
    assert caught.value.status is status


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_nothing_but_a_request_error_comes_of_anything(head: bytes, content: bytes) -> None:
    for parse in (lambda: api.parse_head(head), lambda: api.parse_request(EXPOSE, content)):
        with contextlib.suppress(RequestError):
            parse()


def test_answers_are_whole() -> None:
    assert api.encode_response(HTTPStatus.OK).endswith(b"Content-Length: 0\r\nConnection: close\r\n\r\n")
    assert api.encode_response(HTTPStatus.BAD_REQUEST, "nö").endswith(
        b"Content-Length: 3\r\nConnection: close\r\n\r\nn\xc3\xb6"
    )
    endpoint = Endpoint(protocol=Protocol.TCP, address="127.0.0.1", port=8080)
    forward = Forward(endpoint=endpoint, guest=80, origin=Origin.PUBLISHED)
    assert json.loads(api.encode_forwards([forward])) == [
        {"local": "127.0.0.1:8080", "remote": ":80", "protocol": "tcp"}
    ]
