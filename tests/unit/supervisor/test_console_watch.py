"""What a start tells of a guest's console while it waits."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from machine.model.console import without_escapes
from machine.supervisor.console_watch import (
    LOGIN_PROMPT,
    ConsoleWatch,
    failed_units,
    shows_login_prompt,
    slow_jobs,
)

FAILED = (
    "         Starting \x1b[0;1;39mssh.service\x1b[0m - OpenBSD Secure Shell server...\r\n"
    "[\x1b[0;1;31mFAILED\x1b[0m] Failed to start \x1b[0;1;39mssh.service\x1b[0m - OpenBSD Secure Shell server.\r\n"
    "See 'systemctl status ssh.service' for details.\r\n"
)
SAID = "Failed to start ssh.service - OpenBSD Secure Shell server"
PROMPT = "Debian GNU/Linux 13 box ttyS0\r\n\r\nbox login: "


@pytest.mark.parametrize(
    ("text", "failures"),
    [
        (FAILED, [SAID]),
        (FAILED * 9, [SAID]),
        ("[   12.3] systemd[1]: Failed to mount srv.mount - /srv.\r\n", ["Failed to mount srv.mount - /srv"]),
        ("[FAILED] Failed unmounting /srv\r\n", []),
        ("[ OK ] Started Failed to start\r\n", []),
        ("".join(f"[FAILED] Failed to start {n}.service.\n" for n in range(9)), [
            f"Failed to start {n}.service" for n in range(5)
        ]),
    ],
)  # fmt: skip
def test_failed_units(text: str, failures: list[str]) -> None:
    assert failed_units(without_escapes(text)) == failures


@pytest.mark.parametrize(
    ("text", "shows"),
    [
        (PROMPT, True),
        (PROMPT + "\r\n", True),
        (PROMPT + "[  139.673695] hrtimer: interrupt took 52109475 ns\r\n[  140.000001] again\r\n", True),
        (PROMPT + "root\r\nPassword: ", False),
        ("Last login: yesterday", False),
        ("", False),
    ],
)
def test_login_prompt(text: str, shows: bool) -> None:
    assert shows_login_prompt(without_escapes(text)) is shows


MOON = "[\x1b[0;31m*\x1b[0m     ] (1 of 2) Job moon.service - Wait for the moon/start running ({} / no limit)\r\x1b[K"


@pytest.mark.parametrize(
    ("text", "jobs"),
    [
        (MOON.format("9s") + MOON.format("59s"), []),
        (MOON.format("59s") + MOON.format("1min"), ["moon.service - Wait for the moon (it has no limit)"]),
        ("[***   ] A start job is running for /srv (2min 3s / 10min)\r", ["/srv (its limit: 10min)"]),
        ("[***   ] A start job is running for /srv (1h 3s / 1d 2h)\r", ["/srv (its limit: 1d 2h)"]),
        ("[***   ] A stop job is running for /srv (2min 3s / 10min)\r", []),
        ("[   ***] Job srv.mount/stop running (2min 3s / 10min)\r", []),
    ],
)
def test_units_that_take_long_to_start(text: str, jobs: list[str]) -> None:
    assert slow_jobs(without_escapes(text), min_s=60) == jobs


def test_each_failure_is_told_once_and_the_prompt_after_some_patience(tmp_path: Path) -> None:
    log, rounds = tmp_path / "serial.log", 0
    told: list[str] = []

    def is_booting() -> bool:
        nonlocal rounds
        rounds += 1
        if rounds == 3:
            log.write_text(FAILED + MOON.format("1min 1s") + MOON.format("1min 2s") + "\r\n" + PROMPT)
        return rounds < 200

    watch = ConsoleWatch(log, told.append, every_s=0.001, prompt_patience_s=0.02, job_patience_s=60)
    asyncio.run(watch.watch(is_booting=is_booting))
    moon = "The guest's console: still waiting for moon.service - Wait for the moon (it has no limit)"
    assert told == [f"The guest's console: {SAID}", moon, LOGIN_PROMPT]


def test_prompt_of_a_guest_that_is_ready_soon_is_not_told(tmp_path: Path) -> None:
    log, rounds = tmp_path / "serial.log", 0
    told: list[str] = []
    log.write_text(PROMPT)

    def is_booting() -> bool:
        nonlocal rounds
        rounds += 1
        return rounds < 5

    watch = ConsoleWatch(log, told.append, every_s=0.001, prompt_patience_s=10, job_patience_s=60)
    asyncio.run(watch.watch(is_booting=is_booting))
    assert told == []
