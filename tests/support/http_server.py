"""A real HTTP server on loopback that behaves like Fedora's, fails on demand and records requests."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_SLICE = 32 * 1024


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault in one response: another status, an end or a stall after a number of bytes, or a wrong Content-Length."""

    status: int = 0
    cut_after: int | None = None
    stall_after: int | None = None
    wrong_length: int = 0


@dataclass(kw_only=True)
class Served:
    """One document. Each response with a body consumes one of `faults`; `rate` limits each connection in bytes/s.

    `ranges` says whether Range is supported. An empty `etag` is not sent. `login` is USER:PASSWORD. More simultaneous
    connections than `max_connections` are answered with 503.
    """

    content: bytes
    ranges: bool = True
    etag: str | None = None
    redirect: str = ""
    rate: float = 0
    login: str = ""
    max_connections: int = 0
    busy: int = 0
    faults: list[Fault] = field(default_factory=list)

    @property
    def tag(self) -> str:
        return _tag(self.content) if self.etag is None else self.etag


@functools.lru_cache(maxsize=8)
def _tag(content: bytes) -> str:
    """Compute an ETag; cached, since hashing a disk image takes a second."""
    return f'"{hashlib.sha256(content).hexdigest()[:16]}"'


@dataclass(frozen=True, kw_only=True)
class Request:
    path: str
    range: str | None
    status: int


@dataclass(kw_only=True)
class ImageServer:
    """A running server; `documents`, by path, may be changed at any time. `rate` limits all connections in bytes/s."""

    url: str
    documents: dict[str, Served] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    sent: dict[str, int] = field(default_factory=dict)
    rate: float = 0
    stalled: threading.Event = field(default_factory=threading.Event)
    closing: threading.Event = field(default_factory=threading.Event)
    line: threading.Lock = field(default_factory=threading.Lock)

    def add(self, path: str, content: bytes, **settings: Any) -> str:
        """Serve `content` under `path`; returns its URL."""
        self.documents[path] = Served(content=content, **settings)
        return f"{self.url}{path}"

    def ranges_of(self, path: str) -> list[str | None]:
        """Return the Range header of each request for `path`."""
        return [request.range for request in self.requests if request.path == path]

    def statuses_of(self, path: str) -> list[int]:
        return [request.status for request in self.requests if request.path == path]


@contextlib.contextmanager
def serving(certificate: Path | None = None) -> Iterator[ImageServer]:
    """Run a server during the block; with a PEM file of certificate and key it uses TLS."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            _answer(self, images)

        def log_message(self, *_: Any) -> None: ...

    httpd = _Server(("127.0.0.1", 0), Handler)
    scheme = "http"
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
        scheme = "https"
    images = ImageServer(url=f"{scheme}://127.0.0.1:{httpd.server_address[1]}")
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield images
    finally:
        images.closing.set()
        httpd.shutdown()
        httpd.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that close the connection or reject our certificate."""


def _answer(handler: BaseHTTPRequestHandler, images: ImageServer) -> None:
    served = images.documents.get(handler.path)
    wanted = handler.headers.get("Range")

    def begin(status: int, **headers: str | int) -> None:
        images.requests.append(Request(path=handler.path, range=wanted, status=status))
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), str(value))
        handler.end_headers()

    if served is None:
        begin(404, Content_Length=0)
    elif served.redirect:
        begin(302, Location=served.redirect, Content_Length=0)
    elif served.login and handler.headers.get("Authorization") != _basic(served.login):
        begin(401, Content_Length=0)
    elif served.max_connections and served.busy >= served.max_connections:
        begin(503, Content_Length=0)
    elif served.faults and served.faults[0].status:
        begin(served.faults.pop(0).status, Content_Length=0)
    elif served.tag and handler.headers.get("If-None-Match") == served.tag:
        begin(304)
    else:
        condition = handler.headers.get("If-Range")
        usable = served.ranges and (condition is None or condition == served.tag)
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted or "") if usable else None
        served.busy += 1
        try:
            _answer_with_body(handler, images, served, match, begin)
        finally:
            served.busy -= 1


def _basic(login: str) -> str:
    return f"Basic {base64.b64encode(login.encode()).decode()}"


def _answer_with_body(
    handler: BaseHTTPRequestHandler,
    images: ImageServer,
    served: Served,
    match: re.Match[str] | None,
    begin: Callable[..., None],
) -> None:
    size = len(served.content)
    start = int(match[1]) if match else 0
    end = min(size, int(match[2]) + 1) if match and match[2] else size
    if match and start >= size:
        begin(416, Content_Range=f"bytes */{size}", Content_Length=0)
        return
    fault = served.faults.pop(0) if served.faults else Fault()
    headers: dict[str, str | int] = {"Content_Length": end - start + fault.wrong_length}
    if match:
        headers["Content_Range"] = f"bytes {start}-{end - 1}/{size}"
    elif served.ranges:
        headers["Accept_Ranges"] = "bytes"
    if served.tag:
        headers["ETag"] = served.tag
    begin(206 if match else 200, **headers)
    with contextlib.suppress(OSError):
        limit = next((count for count in (fault.cut_after, fault.stall_after) if count is not None), None)
        _send(handler, images, served, start, end if limit is None else min(end, start + limit))
        if fault.stall_after is not None:
            images.stalled.set()
            images.closing.wait()
    handler.close_connection = handler.close_connection or fault != Fault()


def _send(handler: BaseHTTPRequestHandler, images: ImageServer, served: Served, start: int, end: int) -> None:
    for at in range(start, end, _SLICE):
        piece = served.content[at : min(end, at + _SLICE)]
        if images.rate:
            with images.line:
                time.sleep(len(piece) / images.rate)
        if served.rate:
            time.sleep(len(piece) / served.rate)
        handler.wfile.write(piece)
        images.sent[handler.path] = images.sent.get(handler.path, 0) + len(piece)
