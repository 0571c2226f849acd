"""A real HTTP server on loopback that serves bytes, understands Range and remembers what it was asked for."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(kw_only=True)
class Served:
    """One document; with `stall_after`, the server sends so many bytes of it and then nothing.

    `ranges` says whether the server understands Range: not every one does.
    """

    content: bytes
    ranges: bool = True
    stall_after: int | None = None


@dataclass(frozen=True, kw_only=True)
class Request:
    path: str
    range: str | None


@dataclass(kw_only=True)
class ImageServer:
    """`documents` by their paths may be changed while the server runs."""

    url: str
    documents: dict[str, Served] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    stalled: threading.Event = field(default_factory=threading.Event)
    closing: threading.Event = field(default_factory=threading.Event)

    def add(self, path: str, content: bytes, **settings: Any) -> str:
        """Serve `content` under `path`; returns its URL."""
        self.documents[path] = Served(content=content, **settings)
        return f"{self.url}{path}"

    def ranges_of(self, path: str) -> list[str | None]:
        """The Range header of each request for `path`."""
        return [request.range for request in self.requests if request.path == path]


@contextlib.contextmanager
def serving() -> Iterator[ImageServer]:
    """A server that ends with the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            _answer(self, images)

        def log_message(self, *_: Any) -> None: ...

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    images = ImageServer(url=f"http://127.0.0.1:{httpd.server_address[1]}")
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield images
    finally:
        images.closing.set()
        httpd.shutdown()
        httpd.server_close()
        thread.join()


def _answer(handler: BaseHTTPRequestHandler, images: ImageServer) -> None:
    wanted = handler.headers.get("Range")
    images.requests.append(Request(path=handler.path, range=wanted))
    served = images.documents.get(handler.path)
    if served is None:
        handler.send_error(404)
        return
    size = len(served.content)
    match = re.fullmatch(r"bytes=(\d+)-", wanted or "") if served.ranges else None
    start = int(match[1]) if match else 0
    if match and start >= size:
        handler.send_response(416)
        handler.send_header("Content-Range", f"bytes */{size}")
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return
    handler.send_response(206 if match else 200)
    if match:
        handler.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
    handler.send_header("Content-Length", str(size - start))
    handler.end_headers()
    with contextlib.suppress(ConnectionError):
        if served.stall_after is None:
            handler.wfile.write(served.content[start:])
            return
        handler.wfile.write(served.content[start : served.stall_after])
        handler.wfile.flush()
        images.stalled.set()
        images.closing.wait()
        handler.close_connection = True
