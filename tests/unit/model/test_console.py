"""What is left of a console's output on a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine.model.console import SafeOutput, without_escapes

CASES = [
    (b"[\x1b[0;32m  OK  \x1b[0m] Started\r\n", "[\x1b[0;32m  OK  \x1b[0m] Started\n\x1b[0m"),
    (b"\x1b[2J\x1b[01;01H\x1b[=3h\x1bc\x1b(B\x0e\x07Booting\r\r\n", "Booting\n"),
    (b"\x1b]0;title\x07\x1b]52;c;cm0gLXJm\x1b\\\x1bP+q\x1b\\login: ", "login: "),
    # Neither of these ends: what follows them is shown.
    (b"\x1b]0;title\nlogin: ", "0;title\nlogin: "),
    (b"a\x1b", "a"),
    (b"10 %\r20 %\r\n", "10 %\n20 %\n"),
    (b"\xc2\x9b31m\xc2\x85x\x9by\xff", "31mx\ufffdy\ufffd"),
    ("tab\tand blåbær".encode(), "tab\tand blåbær"),
    (b"\x1b[6n\x1b[5;3H\x1b[8;1;1t\x1b[?1049h", ""),
]


@pytest.mark.parametrize(("raw", "shown"), CASES)
def test_colours_are_all_that_a_terminal_obeys(raw: bytes, shown: str) -> None:
    console = SafeOutput()
    assert console.feed(raw) + console.end() == shown


@pytest.mark.parametrize(("raw", "shown"), CASES)
def test_pieces_of_any_size_show_the_same(raw: bytes, shown: str) -> None:
    console = SafeOutput()
    assert "".join(console.feed(raw[i : i + 1]) for i in range(len(raw))) + console.end() == shown


@given(st.lists(st.binary()))
def test_no_other_control_character_comes_through(pieces: list[bytes]) -> None:
    console = SafeOutput()
    shown = "".join(map(console.feed, pieces)) + console.end()
    text = shown.replace("\x1b[0m", "")
    while "\x1b[" in text:
        before, _, after = text.partition("\x1b[")
        parameters, end, rest = after.partition("m")
        assert end
        assert set(parameters) <= set("0123456789;:")
        text = before + rest
    assert all(character in "\t\n" or character.isprintable() or ord(character) > 0x9F for character in text)


def test_what_is_ready_does_not_wait_and_no_sequence_makes_it_wait_for_long() -> None:
    console = SafeOutput()
    assert console.feed(b"login: ") == "login: "
    assert console.feed(b"\x1b]" + b"x" * 5000) == "x" * 5000


def test_colours_can_be_left_out() -> None:
    console = SafeOutput(colours=False)
    assert console.feed(b"\x1b[1;31mred\x1b[0m\n") + console.end() == "red\n"


def test_plain_text_has_no_colours_either() -> None:
    assert without_escapes("\x1b[1;31mred\x1b[0m\r\n") == "red\n"
