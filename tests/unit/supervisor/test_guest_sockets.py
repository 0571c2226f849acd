"""How the supervisor has the guest link the paths of its sockets; a shell here stands for the guest's."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from machine.store.paths import MachinePaths
from machine.supervisor.guest_sockets import GuestSockets, sockets_script
from tests.support.builders import make_config

ON_HOST = {Path("/run/a.sock"): "/run/user/1000/podman/podman.sock", Path("/run/b.sock"): "/run/podman/podman.sock"}


def provide(script: str, *argv: str) -> list[str]:
    """Have a shell run the script; returns the notices."""
    notices: list[str] = []
    sockets = GuestSockets(
        ssh=lambda command: argv or ["sh", "-c", command],
        on_host=ON_HOST,
        script=script,
        on_notice=notices.append,
        time_scale=1,
    )
    asyncio.run(sockets.provide())
    return notices


def test_guest_runs_the_script_and_can_keep_its_text(tmp_path: Path) -> None:
    script = f"""printf '%s\n' "$program" >{tmp_path}/kept  # \xe9\n"""
    assert provide(script) == []
    assert (tmp_path / "kept").read_text() == script


def test_reason_why_the_paths_cannot_be_had_is_told() -> None:
    assert provide("echo one >&2; echo two >&2; exit 1") == ["Containers cannot mount /run/a.sock and /run/b.sock: two"]
    assert provide("exit 3") == ["Containers cannot mount /run/a.sock and /run/b.sock: exit status 3"]


@pytest.mark.parametrize("argv", [("sh", "-c", "exit 255"), ("/nonexistent",)])
def test_lost_connection_is_not_told_as_the_next_one_tries_again(argv: tuple[str, ...]) -> None:
    assert provide("", *argv) == []


def test_path_that_is_no_utf_8_reaches_the_guest_unchanged(tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/caf\xe9 it's"
    paths = MachinePaths(directory=Path("/unused"), runtime=Path(os.fsdecode(odd)))
    line = next(
        line for line in sockets_script(paths, make_config(name="box")).splitlines() if line.startswith("directory=")
    )
    assert provide(f'{line}\nmkdir "$directory"') == []
    assert paths.runtime.is_dir()
