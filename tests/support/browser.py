"""Chromium without a window, driven by its DevTools protocol over a pipe."""

from __future__ import annotations

import json
import os
import platform
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

_PROGRAMS = ("chromium", "google-chrome")  # Debian's; that of hosted runners
_DEADLINE_S = 60.0
_CHUNK = 1 << 16
_FLAGS = (
    "--headless=new", "--remote-debugging-pipe", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-extensions",
)  # fmt: skip

_DRAWN = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"

Message = dict[str, Any]


@dataclass(kw_only=True)
class Browser:
    """One tab of a browser, and what has gone wrong in it since a page was opened."""

    reader: int
    writer: int
    session: str = ""
    events: list[Message] = field(default_factory=list)
    _number: int = 0
    _rest: bytes = b""

    def call(self, method: str, **params: object) -> Message:
        """Call a method of the protocol; returns its result."""
        self._number += 1
        message: Message = {"id": self._number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.writer, json.dumps(message).encode() + b"\0")
        answer = self._next(lambda found: found.get("id") == self._number)
        assert "error" not in answer, f"{method}: {answer}"
        result: Message = answer["result"]
        return result

    def open(self, url: str) -> None:
        """Open a page, and wait until it and its pictures are loaded."""
        self.events.clear()
        self.call("Page.navigate", url=url)
        if not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._next(lambda found: found.get("method") == "Page.loadEventFired")

    def look(self, *, width: int, scheme: str) -> None:
        """Give the window a width, and prefer a colour scheme, light or dark."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        # A page hears of this when it is drawn next.
        self.call("Runtime.evaluate", expression=_DRAWN, awaitPromise=True)

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression in the page."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    @property
    def errors(self) -> list[str]:
        """The errors on the page's console, its exceptions, and its failed requests."""
        return [text for event in self.events if (text := _error(event["method"], event["params"]))]

    @property
    def requested(self) -> set[str]:
        """The addresses that the page has asked for."""
        return {
            event["params"]["request"]["url"] for event in self.events if event["method"] == "Network.requestWillBeSent"
        }

    def _next(self, is_wanted: Any) -> Message:
        """Read messages until the wanted one, and keep the events among them."""
        deadline = time.monotonic() + _DEADLINE_S
        while True:
            while b"\0" in self._rest:
                text, _, self._rest = self._rest.partition(b"\0")
                message: Message = json.loads(text)
                if "method" in message:
                    self.events.append(message)
                if is_wanted(message):
                    return message
            ready, _, _ = select.select([self.reader], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            chunk = os.read(self.reader, _CHUNK)
            assert chunk, "the browser has ended"
            self._rest += chunk


def _error(method: str, params: Message) -> str | None:
    match method:
        case "Runtime.exceptionThrown":
            return str(params["exceptionDetails"])
        case "Runtime.consoleAPICalled" if params["type"] in ("error", "assert"):
            return str(params["args"])
        case "Log.entryAdded" if params["entry"]["level"] == "error":
            return f"{params['entry']['text']} {params['entry'].get('url', '')}"
        case "Network.loadingFailed" if not params.get("canceled"):
            return f"{params['errorText']} ({params['type']})"
        case _:
            return None


def _program() -> str:
    found = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if found is None and platform.machine() != "x86_64":
        pytest.skip("hosted runners of this architecture have no browser")
    assert found, f"none of {', '.join(_PROGRAMS)} is installed; run: scripts/setup tests"
    return found


@contextmanager
def browsing(profile: Path) -> Iterator[Browser]:
    """Run a browser during the block, with its files in `profile`."""
    commands, answers = os.pipe(), os.pipe()
    flags = [*_FLAGS, f"--user-data-dir={profile}", *(["--no-sandbox"] if os.getuid() == 0 else []), "about:blank"]
    # It reads commands from file descriptor 3 and writes answers to 4.
    redirected = ["bash", "-c", f'exec "$@" 3<&{commands[0]} 4>&{answers[1]}', "bash", _program(), *flags]
    with subprocess.Popen(
        redirected,
        pass_fds=(commands[0], answers[1]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(profile), "XDG_CONFIG_HOME": str(profile), "XDG_CACHE_HOME": str(profile)},
    ) as process:
        try:
            os.close(commands[0])
            os.close(answers[1])
            browser = Browser(reader=answers[0], writer=commands[1])
            target = browser.call("Target.createTarget", url="about:blank")["targetId"]
            browser.session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                browser.call(f"{domain}.enable")
            yield browser
        finally:
            process.kill()
            os.close(answers[0])
            os.close(commands[1])
