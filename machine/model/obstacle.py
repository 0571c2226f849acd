"""Describe why something cannot be used."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Obstacle:
    """Why something cannot be used, and what the user can do about it. `reason` is a phrase to follow a colon."""

    reason: str
    remedy: str | None = None

    def __str__(self) -> str:
        return self.reason
