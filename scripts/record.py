"""Records a session with `machine` on a real guest, and draws it as an SVG that plays it; called by scripts/record."""

from __future__ import annotations

import argparse
import os
import subprocess
import textwrap
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

OUTPUT = Path(__file__).resolve().parents[1] / "docs" / "images" / "session.svg"
SESSION = (
    "machine init --image boot2podman --volume '' box",
    "machine start --quiet box",
    "podman --remote --connection box run --rm busybox echo Hello from a container",
    "machine ls",
    "machine suspend box",
    "podman --remote --connection box run --rm busybox echo The first client wakes it",
    "machine stop box",
)
TITLE = "A session with machine: init, start, a container, suspend, a container that wakes the machine, stop"

_COLUMNS = 100
_HOME = "/home/you"
# A pause longer than this is shortened to it. The picture says how long it was.
_LONGEST_PAUSE_S = 1.5
_TYPING_S = 0.8
_NOTED_S = 5.0
_REST_S = 6.0

_CHARACTER, _LINE, _MARGIN = 8.4, 20, 16


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line that appeared on the terminal, and the seconds since the line before it."""

    text: str
    after_s: float
    is_command: bool = False


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/record")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="[default: docs/images/session.svg]")
    arguments = parser.parse_args()
    lines = list(record(SESSION))
    arguments.output.write_text(svg(lines))
    print(arguments.output)


def record(session: Iterable[str]) -> Iterator[Line]:
    """Run the commands in a new world with a real guest, and yield what they print, standard error included."""
    # Not for drawing, which a unit test does.
    from tests.support.guests import busybox_archive, make_guest_world, publish, take_down

    world = make_guest_world(publish(), os.getuid())
    try:
        busybox = world.root / "busybox"
        busybox.mkdir()
        archive = busybox_archive(Path("/bin/busybox"), busybox)
        path = f"{Path('.venv/bin').resolve()}:{os.environ['PATH']}"
        environment = {**world.environment, "PATH": path, "COLUMNS": str(_COLUMNS)}
        for command in session:
            yield Line(text=command, after_s=_TYPING_S, is_command=True)
            yield from run(command, environment, world.root)
            if command.startswith("machine start"):
                world.remote("box", "import", "--quiet", os.fspath(archive), "busybox")
    finally:
        take_down(world)


def run(command: str, environment: dict[str, str], home: Path) -> Iterator[Line]:
    """Run a command, and yield its lines as they appear. Its home directory is shown as somebody's.

    Raises:
        subprocess.CalledProcessError: the command failed.
    """
    since = time.monotonic()
    with subprocess.Popen(
        ["bash", "-c", command],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout
        for line in process.stdout:
            now = time.monotonic()
            yield Line(text=line.rstrip("\n").replace(str(home), _HOME).expandtabs(), after_s=now - since)
            since = now
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def svg(lines: Sequence[Line]) -> str:
    """Draw lines as a terminal that shows one after the other, over and over (pure)."""
    rows: list[tuple[float, str, bool, str]] = []
    moment = 0.0
    for line in lines:
        moment += min(line.after_s, _LONGEST_PAUSE_S)
        note = f"  ({line.after_s:.0f} s)" if line.after_s >= _NOTED_S else ""
        for piece in textwrap.wrap(line.text, _COLUMNS, drop_whitespace=False) or [""]:
            rows.append((moment, piece, line.is_command, note))
            note = ""
    whole_s = moment + _REST_S
    width = _COLUMNS * _CHARACTER + 2 * _MARGIN
    height = len(rows) * _LINE + 2 * _MARGIN
    drawn = [_row(number, row, whole_s) for number, row in enumerate(rows)]
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" role="img">',
        f"<title>{escape(TITLE)}</title>",
        "<style>",
        "rect { fill: #16181d } text { font: 14px ui-monospace, Menlo, Consolas, monospace; fill: #d7dae0 }",
        ".prompt { fill: #7ec699 } .command { fill: #fff; font-weight: bold } .note { fill: #8b93a1 }",
        "@media (prefers-reduced-motion: reduce) { g { animation: none !important } }",
        *(_appearance(number, row[0], whole_s) for number, row in enumerate(rows)),
        "</style>",
        f'<rect width="{width:.0f}" height="{height}" rx="8"/>',
        *drawn,
        "</svg>",
        "",
    ])  # fmt: skip


def _row(number: int, row: tuple[float, str, bool, str], whole_s: float) -> str:
    _, text, is_command, note = row
    y = _MARGIN + (number + 0.75) * _LINE
    prompt = '<tspan class="prompt">$ </tspan>' if is_command else ""
    shown = f'<tspan class="command">{escape(text)}</tspan>' if is_command else escape(text)
    told = f'<tspan class="note">{note}</tspan>' if note else ""
    animation = f"animation: r{number} {whole_s:.1f}s infinite"
    return (
        f'<g style="{animation}"><text x="{_MARGIN}" y="{y:.0f}" xml:space="preserve">{prompt}{shown}{told}</text></g>'
    )


def _appearance(number: int, moment: float, whole_s: float) -> str:
    share = 100 * moment / whole_s
    return f"@keyframes r{number} {{ 0%, {share:.2f}% {{ opacity: 0 }} {share + 0.01:.2f}%, 100% {{ opacity: 1 }} }}"


if __name__ == "__main__":
    main()
