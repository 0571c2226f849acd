"""Watch a guest's console: always for its kernel's words, and during a start for units in trouble and a login."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

from machine.model.console import without_escapes
from machine.supervisor.evidence import last_kill, panic_message, tail

# systemd's status output, or its messages if they go to the console.
_FAILED = re.compile(
    r"(?:\[ *FAILED *\]|systemd\[1\]:) *(Failed to (?:start|mount|listen on|activate) .+?)\.?\s*$", re.MULTILINE
)
# What systemd shows of a job that takes long, by the unit's description or by its name.
_JOB = re.compile(
    r"(?:A start job is running for (?P<description>.+?)|Job (?P<unit>.+?)/start running) "
    r"\((?P<time>\d[\w. ]*) / (?P<limit>\d[\w. ]*|no limit)\)"
)
_TIME_PART = re.compile(r"(\d+)(h|min|s)\b")
_UNIT_SECONDS = {"h": 3600, "min": 60, "s": 1}
_LOGIN_PROMPT = re.compile(r"^\S+ login: ?$")
_KERNEL_MESSAGE = re.compile(r"\[ *\d+\.\d{6}\] .*")
# A boot that goes very wrong fails everywhere.
_MAX_FAILURES = 5

LOGIN_PROMPT = (
    "The guest's console shows a login prompt, but the guest is not ready for SSH yet; "
    "its SSH server or boot2podman-ready.service may have failed or be missing"
)


class ConsoleWatch:
    """Reads the log of the console at intervals during a boot, and reports each failed or slow unit once."""

    def __init__(
        self,
        serial_log: Path,
        notice: Callable[[str], None],
        *,
        every_s: float,
        prompt_patience_s: float,
        job_patience_s: float,
    ) -> None:
        self._serial_log = serial_log
        self._notice = notice
        self._every_s = every_s
        self._prompt_patience_s = prompt_patience_s
        self._job_patience_s = job_patience_s
        self._told: set[str] = set()

    async def watch(self, *, is_booting: Callable[[], bool]) -> None:
        """Report failed units, units that take long, and a login prompt, until `is_booting` returns False.

        A login prompt is reported only after `prompt_patience_s`, because it may appear before the guest has reported
        that it is ready.
        """
        loop = asyncio.get_running_loop()
        prompt_seen: float | None = None
        while is_booting():
            await asyncio.sleep(self._every_s)
            text = without_escapes(tail(self._serial_log))
            for failure in failed_units(text):
                self._tell(f"The guest's console: {failure}")
            for job in slow_jobs(text, min_s=self._job_patience_s):
                self._tell(f"The guest's console: still waiting for {job}")
            if not shows_login_prompt(text):
                prompt_seen = None
            elif prompt_seen is None:
                prompt_seen = loop.time()
            elif loop.time() - prompt_seen >= self._prompt_patience_s and is_booting():
                self._tell(LOGIN_PROMPT)

    def _tell(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._notice(text)


class KernelWatch:
    """Checks at intervals whether the log of the console shows a panic of the guest's kernel, or its lack of memory."""

    def __init__(self, serial_log: Path, *, every_s: float) -> None:
        self._serial_log = serial_log
        self._every_s = every_s

    async def watch(self, *, on_panic: Callable[[str], None], on_kill: Callable[[str], None]) -> None:
        """Call `on_panic` with the kernel's message once for each panic with which the log ends. This never returns.

        Call `on_kill` with the name of a program that the kernel kills because no memory is left.
        """
        told: str | None = None
        kill = last_kill(self._text())  # older than this supervisor, so it is no news
        seen = -1
        while True:
            size = _size(self._serial_log)
            if size != seen:
                seen, text = size, self._text()
                message = panic_message(text)
                if message and message != told:
                    on_panic(message)
                told = message
                before, kill = kill, last_kill(text)
                if kill and not (before and before.group() == kill.group()):
                    on_kill(kill["name"])
            await asyncio.sleep(self._every_s)

    def _text(self) -> str:
        return without_escapes(tail(self._serial_log))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # it was removed
        return 0


def failed_units(text: str) -> list[str]:
    """Return systemd's messages about units that have failed, each once."""
    return list(dict.fromkeys(_FAILED.findall(text)))[:_MAX_FAILURES]


def slow_jobs(text: str, *, min_s: float) -> list[str]:
    """Return the units that have been starting for `min_s` seconds or more, each once, with how long they may take."""
    found = {job["description"] or job["unit"]: job for job in _JOB.finditer(text)}  # the last time of each
    return [
        f"{name} (its limit: {job['limit']})" if job["limit"] != "no limit" else f"{name} (it has no limit)"
        for name, job in found.items()
        if _seconds(job["time"]) >= min_s
    ][:_MAX_FAILURES]


def _seconds(time: str) -> int:
    return sum(int(number) * _UNIT_SECONDS[unit] for number, unit in _TIME_PART.findall(time))


def shows_login_prompt(text: str) -> bool:
    """Return whether the last thing on the console is a login prompt, apart from messages of the kernel."""
    lines = [line for line in _KERNEL_MESSAGE.sub("", text).split("\n") if line.strip()]
    return bool(lines) and bool(_LOGIN_PROMPT.match(lines[-1]))
