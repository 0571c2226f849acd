"""Write the table of what has run on real guests into tests/README.md: `python -m scripts.real_runs`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.support.real_runs import Record, load, tracked
from tests.support.real_runs_missing import MISSING

PAGE = Path(__file__).parent.parent / "tests" / "README.md"
BEGIN = "<!-- The table is written by: python -m scripts.real_runs -->"
END = "<!-- The end of the table -->"


def table(record: Record, missing: Mapping[str, str]) -> str:
    """Return the table: the guests on which each verb and flag has run, or the reason why there is none."""
    lines = ["| verb or flag | guests on which it has run |", "| --- | --- |"]
    for use in sorted(tracked()):
        guests = ", ".join(record.get(use, {})) or f"none: {missing.get(use, 'no reason is given')}"
        lines.append(f"| `{use}` | {guests} |")
    return "\n".join(lines)


def updated(page: str) -> str:
    """Return the page with a current table between its two marks."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{table(load(), MISSING)}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text()))
