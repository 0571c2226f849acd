"""The last lines of a log."""

from __future__ import annotations

import pytest

from machine.ops.logs import last_lines

TEXT = b"one\r\ntwo\n\nfour"


@pytest.mark.parametrize(
    ("count", "lines"),
    [
        (0, []),
        (1, [b"four"]),
        (2, [b"\n", b"four"]),
        (4, [b"one\r\n", b"two\n", b"\n", b"four"]),
        (9, [b"one\r\n", b"two\n", b"\n", b"four"]),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 100])
def test_last_lines_are_those_of_the_whole_text(count: int, lines: list[bytes], size: int) -> None:
    assert last_lines((TEXT[at : at + size] for at in range(0, len(TEXT), size)), count) == lines


def test_line_that_has_ended_is_followed_by_none() -> None:
    assert last_lines([b"one\ntwo\n"], 1) == [b"two\n"]
    assert last_lines([], 3) == []
