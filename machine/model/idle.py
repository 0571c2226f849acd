"""Describe when a machine is idle, and for how long it must be idle until it is suspended (pure)."""

from __future__ import annotations

import re

from machine.model.dataclass import dataclass

OFF = "off"

_CONTAINERS = "containers"
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_MIN_S, _MAX_S = 60, 30 * 86400
# A user who has just started a machine is about to use it.
_MIN_UP_S = 300.0


@dataclass(frozen=True, kw_only=True)
class IdleSuspend:
    """The user's wish that an idle machine is suspended."""

    after_s: int
    ignores_containers: bool = False
    """Whether a machine counts as idle although containers run in it."""


@dataclass(frozen=True, kw_only=True)
class Activity:
    """What goes on in a machine at one moment."""

    connections: int
    """How many connections lead into the guest, except for the supervisor's own."""

    containers: int | None
    """How many containers run. None if that is unknown."""


def check_idle_suspend(text: str) -> str:
    """Check a setting like `15m`, `15m,containers` or `off`, and return it.

    Raises:
        ValueError: the text is not such a setting.
    """
    parse_idle_suspend(text)
    return text


def parse_idle_suspend(text: str) -> IdleSuspend | None:
    """Read a setting like `15m`, `15m,containers` or `off`. Return None for `off`.

    Raises:
        ValueError: the text is not such a setting.
    """
    if text == OFF:
        return None
    found = re.fullmatch(rf"([0-9]{{1,7}})([smhd])(,{_CONTAINERS})?", text, re.ASCII)
    if found is None:
        raise ValueError(f'"{text}" is not a time')
    after_s = int(found[1]) * _SECONDS[found[2]]
    if not _MIN_S <= after_s <= _MAX_S:
        raise ValueError(f'"{text}" is too short or too long')
    return IdleSuspend(after_s=after_s, ignores_containers=found[3] is not None)


def is_idle(activity: Activity, wish: IdleSuspend) -> bool:
    """Return whether nobody uses the machine."""
    return activity.connections == 0 and (wish.ignores_containers or activity.containers == 0)


def is_due(wish: IdleSuspend, *, idle_s: float, up_s: float) -> bool:
    """Return whether to suspend a machine that has been idle for `idle_s`, and up for `up_s` since its last start."""
    return idle_s >= wish.after_s and up_s >= _MIN_UP_S
