"""Hosts that are reached over SSH, and of which no machine can be made."""

from __future__ import annotations

import pytest

from tests.support.machines_elsewhere import MARKS, PAGE, init, nothing_is_left
from tests.support.remote_host import RemoteHost
from tests.support.world import World

pytestmark = MARKS


@pytest.mark.parametrize(
    ("program", "text", "problem"),
    [
        ("uname", "echo Darwin", "runs Darwin, but containers need Linux"),
        (
            "uname",
            'test "$1" = -m && echo sparc64 || echo Linux',
            "has the architecture sparc64, which is not supported",
        ),
        ("getconf", 'kill "$PPID"', "does not tell what it has"),
    ],
)
def test_unfit_host_leads_to_the_documentation(
    world: World, host: RemoteHost, program: str, text: str, problem: str
) -> None:
    host.program(program, text)
    refused = init(world, host)
    assert refused.status == 125
    assert f"Error: 127.0.0.1:{host.port} {problem}" in refused.stderr
    assert refused.stderr.endswith(PAGE)
    assert nothing_is_left(world)


def test_command_that_fails_on_the_host_is_told_with_its_last_lines(world: World, host: RemoteHost) -> None:
    (host.bin / "podman").unlink()
    host.has_sudo()
    host.program("apt-get", "echo Reading lists; echo no such package >&2; exit 100")
    failed = init(world, host, "--install", stdin="y\n")
    assert failed.status == 125
    assert f'&& sudo apt-get install -y podman" has failed on 127.0.0.1:{host.port}: no such package\n' in failed.stderr
    assert failed.stderr.endswith(f"  no such package\n{PAGE}")
    assert nothing_is_left(world)
