"""Draw the pictures of the documentation into docs/images/: `python -m scripts.docs_pictures`.

The diagrams are described in this module; the figures of the benchmarks are in docs/benchmarks.toml.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"
IMAGES = DOCS / "images"

_FONT = 'font-family="system-ui, sans-serif"'
_COLOURS = ("#3f51b5", "#ef6c00", "#00897b", "#8e24aa")
_LINE, _PAD = 18, 12


@dataclass(frozen=True)
class Box:
    """A rectangle with lines of text, of which the first is bold."""

    x: int
    y: int
    width: int
    height: int
    text: str
    fill: str = "#ffffff"


@dataclass(frozen=True)
class Arrow:
    """A line with a head at its end, and a label at its middle."""

    start: tuple[int, int]
    end: tuple[int, int]
    label: str = ""


HOST, GUEST, CONTAINER = "#eef0fb", "#fdf1e5", "#e4f4f1"

OVERVIEW = (
    Box(10, 10, 800, 300, "your host (Linux or macOS)", HOST),
    Box(30, 50, 190, 56, "machine\nmakes, starts, stops it"),
    Box(30, 126, 190, 56, "podman, docker, SDKs\ntheir usual client"),
    Box(30, 202, 190, 56, "browser, curl\na published port"),
    Box(250, 50, 130, 56, "supervisor\none a machine"),
    Box(250, 126, 130, 56, "podman.sock\nAPI socket"),
    Box(250, 202, 130, 56, "127.0.0.1:8080\nTCP and UDP"),
    Box(450, 30, 345, 265, "QEMU (KVM, HVF, or emulation)", "#ffffff"),
    Box(470, 62, 305, 215, "guest (Fedora CoreOS, …)", GUEST),
    Box(490, 98, 120, 70, "Podman\nrootless, root"),
    Box(490, 190, 265, 66, "containers", CONTAINER),
    Box(640, 98, 115, 70, "your folders\nvirtiofs, 9p"),
    Arrow((220, 78), (250, 78)),
    Arrow((220, 154), (250, 154)),
    Arrow((220, 230), (250, 230)),
    Arrow((380, 78), (450, 78), "QMP, SSH"),
    Arrow((380, 154), (490, 142), "SSH"),
    Arrow((380, 230), (490, 230), "network"),
    Arrow((550, 168), (550, 190)),
    Arrow((697, 168), (697, 190)),
)

START = (
    Box(10, 20, 120, 66, "launch\nQEMU answers"),
    Box(155, 20, 120, 66, "boot\nthe guest says\nits boot id"),
    Box(300, 20, 120, 66, "ssh\nexpected\nhost key"),
    Box(445, 20, 120, 66, "folders\nthe guest\nmounts them"),
    Box(590, 20, 120, 66, "api\nPodman\nanswers"),
    Box(735, 20, 75, 66, "up", CONTAINER),
    Box(10, 120, 130, 56, "resume\nmemory is loaded", GUEST),
    Arrow((130, 53), (155, 53)),
    Arrow((275, 53), (300, 53)),
    Arrow((420, 53), (445, 53)),
    Arrow((565, 53), (590, 53)),
    Arrow((710, 53), (735, 53)),
    Arrow((70, 86), (70, 120), "suspended"),
    Arrow((140, 148), (340, 86)),
)

PORT = (
    Box(10, 20, 170, 66, "podman run -p 8080:80\nin the guest", GUEST),
    Box(250, 20, 170, 66, "port API\nQEMU's guestfwd, relay"),
    Box(490, 20, 150, 66, "supervisor\nallowed? free?"),
    Box(490, 130, 150, 66, "QEMU or SSH\nlistens on the host"),
    Box(250, 130, 170, 66, "two seconds later\ncompared with\nPodman's lists"),
    Box(690, 130, 120, 66, "client\n127.0.0.1:8080", HOST),
    Arrow((180, 53), (250, 53), "HTTP"),
    Arrow((420, 53), (490, 53), "socket"),
    Arrow((565, 86), (565, 130), "open"),
    Arrow((690, 163), (640, 163)),
    Arrow((490, 163), (420, 163), "check"),
    Arrow((250, 150), (100, 86), "closed if nobody publishes it"),
)

IMAGE = (
    Box(10, 20, 130, 66, "reference\nfcos:stable"),
    Box(180, 20, 140, 66, "stream metadata\nURL, sha256,\nsignature"),
    Box(360, 20, 140, 66, "download\nhashed, resumed,\nunpacked"),
    Box(540, 20, 140, 66, "verified?\nsignature and\nboth checksums"),
    Box(540, 130, 140, 66, "base image\nin the cache,\nby its digest", CONTAINER),
    Box(300, 130, 140, 56, "overlay: box", GUEST),
    Box(300, 200, 140, 56, "overlay: web", GUEST),
    Arrow((140, 53), (180, 53)),
    Arrow((320, 53), (360, 53)),
    Arrow((500, 53), (540, 53)),
    Arrow((610, 86), (610, 130), "yes"),
    Arrow((440, 158), (540, 158)),
    Arrow((440, 228), (540, 180)),
)

DIAGRAMS: Mapping[str, tuple[str, tuple[int, int], Sequence[Box | Arrow]]] = {
    "overview": ("How clients on the host reach containers in the guest", (820, 320), OVERVIEW),
    "start": ("The phases of a start", (820, 190), START),
    "port": ("How a published port is opened", (820, 215), PORT),
    "image": ("From a reference to a disk", (700, 270), IMAGE),
}


def diagram(title: str, size: tuple[int, int], shapes: Sequence[Box | Arrow]) -> str:
    """Draw boxes and arrows."""
    return _svg(title, size, [_box(shape) if isinstance(shape, Box) else _arrow(shape) for shape in shapes])


def _svg(title: str, size: tuple[int, int], parts: Sequence[str]) -> str:
    width, height = size
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" {_FONT}>'
    )
    marker = (
        '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
        'orient="auto-start-reverse"><path d="M0 0L10 5L0 10z" fill="#37474f"/></marker></defs>'
    )
    # A light ground, so that the picture can be read on dark pages, too.
    ground = f'<rect width="{width}" height="{height}" rx="8" fill="#fafafa"/>'
    return "\n".join([head, f"<title>{escape(title)}</title>", marker, ground, *parts, "</svg>", ""])


def _box(box: Box) -> str:
    lines = box.text.split("\n")
    texts = [
        _text(box.x + _PAD, box.y + _LINE + number * _LINE, line, bold=number == 0) for number, line in enumerate(lines)
    ]
    frame = (
        f'<rect x="{box.x}" y="{box.y}" width="{box.width}" height="{box.height}" rx="6" fill="{box.fill}" '
        'stroke="#90a4ae"/>'
    )
    return frame + "".join(texts)


def _text(x: float, y: float, text: str, *, bold: bool = False, size: int = 13, anchor: str = "start") -> str:
    weight = ' font-weight="600"' if bold else ""
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="#212121" text-anchor="{anchor}"{weight}>'
        f"{escape(text)}</text>"
    )


def _arrow(arrow: Arrow) -> str:
    (x1, y1), (x2, y2) = arrow.start, arrow.end
    line = (
        f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="#37474f" stroke-width="1.5" marker-end="url(#head)"/>'
    )
    if not arrow.label:
        return line
    if x1 == x2:
        return line + _text(x1 + 6, (y1 + y2) / 2 + 4, arrow.label, size=11)
    return line + _text((x1 + x2) / 2, (y1 + y2) / 2 - 5, arrow.label, size=11, anchor="middle")


# Bars

_BAR, _GAP, _RIGHT, _TOP = 16, 14, 70, 44
_LETTER = 7.5
"""About the width of a letter."""


def bars(title: str, measured: str, groups: Sequence[str], series: Mapping[str, Sequence[float]]) -> str:
    """Draw horizontal bars, a group for each name in `groups` with a bar for each series.

    `measured` says when and on what the figures were measured.
    """
    width = 700
    group_height = _BAR * len(series) + _GAP
    height = _TOP + group_height * len(groups) + 52
    left = max(150, round(_LETTER * max(map(len, groups))))
    scale = (width - left - _RIGHT) / max(value for values in series.values() for value in values)
    parts = [_text(_PAD, 24, title, bold=True)]
    for row, group in enumerate(groups):
        y = _TOP + row * group_height
        parts.append(_text(left - 8, y + _BAR * len(series) / 2 + 5, group, anchor="end"))
        for number, (values, colour) in enumerate(zip(series.values(), _COLOURS, strict=False)):
            top = y + number * _BAR
            length = values[row] * scale
            parts.append(
                f'<rect x="{left}" y="{top}" width="{length:.1f}" height="{_BAR - 3}" rx="2" fill="{colour}"/>'
            )
            parts.append(_text(left + length + 6, top + 11, f"{values[row]:g}", size=11))
    for number, (name, colour) in enumerate(zip(series, _COLOURS, strict=False)):
        x = left + number * 150
        parts.append(f'<rect x="{x}" y="{height - 42}" width="12" height="12" rx="2" fill="{colour}"/>')
        parts.append(_text(x + 18, height - 32, name, size=12))
    parts.append(_text(_PAD, height - 10, measured, size=11))
    return _svg(title, (width, height), parts)


def pictures() -> dict[str, str]:
    """Draw all pictures, by file name."""
    found = {f"{name}.svg": diagram(*described) for name, described in DIAGRAMS.items()}
    for name, figures in tomllib.loads((DOCS / "benchmarks.toml").read_text()).items():
        title, measured, groups = (figures.pop(key) for key in ("title", "measured", "groups"))
        found[f"bench-{name}.svg"] = bars(title, measured, groups, figures)
    return found


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    for name, text in pictures().items():
        (IMAGES / name).write_text(text)


if __name__ == "__main__":
    main()
