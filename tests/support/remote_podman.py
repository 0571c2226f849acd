"""A stand-in for Podman on a remote host, given a DIRECTORY and Podman's words."""

from __future__ import annotations

import os
import sys
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer

DIRECTORY = Path(sys.argv[1])
CONTAINERS = DIRECTORY / "containers.json"


class Api(BaseHTTPRequestHandler):
    """The few requests of Podman's API that a machine makes."""

    def do_GET(self) -> None:
        if self.path.endswith("/_ping"):
            self.answer(b"OK")
        elif "/containers/json" in self.path:
            self.answer(CONTAINERS.read_bytes())
        elif "/events" in self.path:
            self.tell_changes()
        else:
            self.send_error(404)

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def tell_changes(self) -> None:
        self.send_response(200)
        self.end_headers()
        seen = CONTAINERS.stat().st_ino
        while True:
            if (now := CONTAINERS.stat().st_ino) != seen:
                seen = now
                self.wfile.write(b"{}\n")
                self.wfile.flush()
            time.sleep(0.05)

    def address_string(self) -> str:
        return "client"

    def log_message(self, *_: object) -> None: ...


class Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True


def main() -> None:
    match sys.argv[2:]:
        case ["--version"]:
            sys.stdout.write(f"podman version {(DIRECTORY / 'version').read_text()}\n")
        case ["info", *_]:
            mine = f"/run/user/{os.getuid()}/podman/podman.sock"
            sys.stdout.write(f"{mine if os.getuid() else '/run/podman/podman.sock'}\n")
        case ["system", "service", _, url]:
            Server(url.removeprefix("unix://"), Api).serve_forever()
        case _:
            sys.exit(1)


if __name__ == "__main__":
    main()
