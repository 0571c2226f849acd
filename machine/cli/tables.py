"""Format plain tables without a library, because `ls` must be quick."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

_MIN_WIDTH = 12
_PADDING = 2


_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def human_size(count: int) -> str:
    """Format a number of bytes in the largest unit in which the number is at least 1."""
    size, unit = float(count), _UNITS[0]
    for unit in _UNITS:
        if size < 1024 or unit == _UNITS[-1]:
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def table(rows: Sequence[Sequence[str]], *, width: int = _MIN_WIDTH, padding: int = _PADDING) -> str:
    """Format rows of cells as lines of text with aligned columns."""
    return align("".join("\t".join(row) + "\n" for row in rows), width=width, padding=padding)


def align(text: str, *, width: int = _MIN_WIDTH, padding: int = _PADDING) -> str:
    """Align tab-separated text as Go's tabwriter does for Podman. Columns are at least 12 wide and 2 apart.

    Consecutive lines that have a column share its width. A line without the column ends that group of lines. The text
    after the last tab of a line is not part of a column.
    """
    lines = [line.split("\t") for line in text.split("\n")]
    for column in range(max(map(len, lines)) - 1):
        for block in _blocks(lines, column):
            needed = max(width, max(len(cells[column]) for cells in block) + padding)
            for cells in block:
                cells[column] = cells[column].ljust(needed)
    return "\n".join("".join(line) for line in lines)


def _blocks(lines: list[list[str]], column: int) -> list[list[list[str]]]:
    """Return groups of consecutive lines that all have this column. Lines that do not have it are left out."""
    return [list(block) for has, block in groupby(lines, key=lambda cells: len(cells) > column + 1) if has]
