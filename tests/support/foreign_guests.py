"""The machine of the tier that boots guests of other architectures."""

from __future__ import annotations

from dataclasses import dataclass

from machine.model.arch import Arch
from tests.support.world import World

NAME = "arm"


@dataclass(frozen=True, kw_only=True)
class Guest:
    """A machine that was made and started by one command, which wrote `said` to stderr."""

    world: World
    arch: Arch
    said: str
