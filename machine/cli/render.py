"""Plain output, without a library: `ls` must be quick."""

from __future__ import annotations

from collections.abc import Sequence

_MIN_WIDTH = 12
_PADDING = 2


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as Go's tabwriter sets them for Podman: at least 12 wide, 2 apart, the last one as it is."""
    if not rows:
        return ""
    widths = [max(_MIN_WIDTH, max(map(len, column)) + _PADDING) for column in zip(*rows, strict=True)]
    return "".join(
        "".join(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)) + row[-1] + "\n"
        for row in rows
    )
