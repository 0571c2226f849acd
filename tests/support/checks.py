"""Formatting of doctor's checks for golden files."""

from __future__ import annotations

from machine.model.doctor_check import Check, Status


def text_of(*checks: Check) -> str:
    """Format checks as text: status and finding, and the remedy below them."""
    lines = []
    for check in checks:
        assert check.finding
        assert "\n" not in f"{check.finding}{check.remedy}"
        assert (check.remedy is None) is (check.status is Status.OK)
        assert check.remedy != ""
        lines += [f"{check.name}: {check.status}: {check.finding}", *([f"  -> {check.remedy}"] if check.remedy else [])]
    return "\n".join(lines)
