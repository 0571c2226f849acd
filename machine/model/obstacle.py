"""Describe why something cannot be used."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Obstacle:
    """Why something cannot be used, as a phrase to put after a colon, and what the user can do about it."""

    reason: str
    remedy: str | None = None

    def __str__(self) -> str:
        return self.reason
