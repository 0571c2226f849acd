"""The picture of a recorded session."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from scripts.record import OUTPUT, SESSION, Line, svg

LINES = [
    Line(text="machine ls", after_s=0.8, is_command=True),
    Line(text="NAME  <none> & more", after_s=0.2),
    Line(text="x" * 150, after_s=42),
]


def drawn(text: str) -> list[str]:
    root = ET.fromstring(text)
    return ["".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text")]


def test_lines_are_drawn_as_they_were_and_long_ones_wrapped() -> None:
    assert drawn(svg(LINES)) == ["$ machine ls", "NAME  <none> & more", "x" * 100 + "  (42 s)", "x" * 50]


def test_pauses_are_shortened_and_lines_appear_in_order() -> None:
    shares = [float(share) for share in re.findall(r"0%, ([\d.]+)% \{ opacity: 0", svg(LINES))]
    assert shares == sorted(shares)
    assert len(set(re.findall(r"animation: r\d+ ([\d.]+)s", svg(LINES)))) == 1
    assert "animation: none" in svg(LINES)


def test_picture_of_the_documentation_is_of_this_session() -> None:
    text = OUTPUT.read_text()
    shown = drawn(text)
    assert [line.removeprefix("$ ") for line in shown if line.startswith("$ ")] == list(SESSION)
    assert any(line.startswith("Hello from a container  (") for line in shown)
    assert not re.search(r"/tmp/|/root|Error:", text)
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
