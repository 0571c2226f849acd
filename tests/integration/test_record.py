"""What scripts/record notes of a command, without a guest."""

from __future__ import annotations

import subprocess

import pytest

from scripts.record import run
from tests.support.world import World


def test_lines_are_noted_in_their_order_with_errors_and_without_this_hosts_paths(world: World) -> None:
    world.link_tool("bash")
    command = f"echo 'a\tb'; echo {world.root}/m >&2; echo"
    assert [line.text for line in run(command, world.environment, world.root)] == ["a       b", "/home/you/m", ""]


def test_command_that_fails_ends_the_recording(world: World) -> None:
    world.link_tool("bash")
    with pytest.raises(subprocess.CalledProcessError):
        list(run("false", world.environment, world.root))
