"""Checks of doctor as golden files have them."""

from __future__ import annotations

from machine.model.doctor_check import Check, Status


def told(*checks: Check) -> str:
    """Checks as text: status and finding, and the remedy below them."""
    lines = []
    for check in checks:
        assert check.finding
        assert "\n" not in check.finding + check.remedy
        assert bool(check.remedy) is (check.status is not Status.OK)
        lines += [f"{check.name}: {check.status}: {check.finding}", *([f"  -> {check.remedy}"] if check.remedy else [])]
    return "\n".join(lines)
