"""Plain output, without a library: `ls` must be quick."""

from __future__ import annotations

from collections.abc import Sequence

_MIN_WIDTH = 12
_PADDING = 2


_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def human_size(count: int) -> str:
    """Bytes in the largest unit of which there is at least one."""
    size, unit = float(count), _UNITS[0]
    for unit in _UNITS:
        if size < 1024 or unit == _UNITS[-1]:
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def table(rows: Sequence[Sequence[str]], *, width: int = _MIN_WIDTH, padding: int = _PADDING) -> str:
    """Columns as Go's tabwriter sets them for Podman: at least 12 wide, 2 apart, the last one as it is."""
    if not rows:
        return ""
    widths = [max(width, max(map(len, column)) + padding) for column in zip(*rows, strict=True)]
    return "".join(
        "".join(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)) + row[-1] + "\n"
        for row in rows
    )
