"""The machine of the arch tier."""

from __future__ import annotations

from dataclasses import dataclass

from machine.model.arch import Arch
from tests.support.world import World

NAME = "arm"


@dataclass(frozen=True, kw_only=True)
class Guest:
    """A machine that was created and started by one command, with its `stderr`."""

    world: World
    arch: Arch
    stderr: str
