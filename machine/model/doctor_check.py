"""Describe the result of checking one thing about this host."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from machine.errors import MachineError


class Status(StrEnum):
    OK = "ok"
    WARNING = "warning"
    """The thing that was checked works, but is slower than it could be, or does not work for everything."""

    FAILURE = "failure"
    """No machine can be made or started."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """The result of one check. `remedy` is a command or a sentence, or None if there is nothing to do."""

    name: str
    status: Status
    finding: str
    remedy: str | None = None


def ok(name: str, finding: str) -> Check:
    return Check(name=name, status=Status.OK, finding=finding)


def warning(name: str, finding: str, remedy: str | None) -> Check:
    return Check(name=name, status=Status.WARNING, finding=finding, remedy=remedy)


def failure(name: str, finding: str, remedy: str | None) -> Check:
    return Check(name=name, status=Status.FAILURE, finding=finding, remedy=remedy)


def failure_from(name: str, error: MachineError, remedy: str | None = None) -> Check:
    """Return a failure for an error. The error's hint is the remedy. If there is no hint, use `remedy`."""
    return failure(name, error.message, error.hint or remedy)


def is_ready(checks: Iterable[Check]) -> bool:
    """Return whether machines can be made and started."""
    return all(check.status is not Status.FAILURE for check in checks)
